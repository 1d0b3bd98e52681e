"""Continuing a run: what its checkpoint must hold, and which settings may change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from atrous.checkpoints.card import Card, load_plain, segmentor_weights
from atrous.errors import AtrousError
from atrous.runs import BEFORE_LAST

MAY_CHANGE = (
    # where files are
    "ckpt_path",
    "paths",
    "data.root",
    "data.statistics",
    "upsampler.weights",
    "model.upsampler.weights",
    "callbacks.best.dirpath",
    "callbacks.last.path",
    # what it runs on and how fast
    "data.num_workers",
    "data.timeout",
    "data.cache",
    "data.cache_folder",
    "data.cache_gb",
    "data.eval_batch_size",
    "task.channels_last",
    "task.atrous_convolution",
    "task.checkpoint_activations",
    "task.compile",
    "task.not_finite",
    "task.skip_not_finite",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "trainer.sync_batchnorm",
    # what trainer.max_steps says too
    "search.epochs",
    # what is shown and how often
    "logger",
    "callbacks.progress",
    "callbacks.learning_rates",
    "callbacks.panels",
    "callbacks.images",
    "callbacks.report",
    "callbacks.baselines",
    "callbacks.architecture",
    "callbacks.last.every",
    "trainer.enable_model_summary",
    "trainer.log_every_n_steps",
    "trainer.num_sanity_val_steps",
)
"""Parts of the configuration that a continued run may have differently; ``trainer.max_steps`` may grow besides."""

_CAME_LATER = {"data.shrink": 1, "upsampler.learn_temperature": True, "model.upsampler.learn_temperature": True}
"""Parts that runs of older versions lack, and what those runs did."""

_SHOWN = 12  # differences listed in a message
_STATES = ("state_dict", "optimizer_states", "lr_schedulers", "loops", "callbacks")


@dataclass(frozen=True)
class StartingPoint:
    """The checkpoint from which a run continues.

    Attributes:
        path: The file.
        step: Optimizer steps before it.
        card: What it says about itself.
        damaged: What is wrong with the newer one, in whose place it is.
    """

    path: Path
    step: int
    card: Card
    damaged: str = ""


def read_starting_point(path: Path) -> StartingPoint:
    """Inspect a checkpoint before anything is built from it; where ``last.ckpt`` is damaged, the one before it counts.

    Raises:
        AtrousError: It is missing, damaged or not ours, or holds only weights.
    """
    before = path.with_name(BEFORE_LAST)
    try:
        return _read(path)
    except AtrousError as error:
        if path.name != "last.ckpt" or not before.is_file():
            raise
        return replace(_read(before), damaged=str(error))


def _read(path: Path) -> StartingPoint:
    """Inspect one checkpoint.

    Raises:
        AtrousError: It is missing, damaged or not ours, or holds only weights.
    """
    checkpoint = load_plain(path)
    card = Card.of(checkpoint, str(path))
    segmentor_weights(checkpoint, str(path))
    missing = [name for name in _STATES if name not in checkpoint]
    if missing or not isinstance(checkpoint.get("global_step"), int):
        raise AtrousError(
            f"{path} holds weights but not the state of a run ({', '.join(missing) or 'no step'} missing): start a new "
            f"run from them with init_from={path}"
        )
    return StartingPoint(path, checkpoint["global_step"], card)


def require_same_recipe(point: StartingPoint, recipe: Mapping[str, Any]) -> list[str]:
    """Compare the current configuration with that of the run to continue.

    Args:
        point: Where the run stands.
        recipe: The current configuration.

    Returns:
        Allowed differences that have consequences, one sentence each.

    Raises:
        AtrousError: Something else is different; the message lists it.
    """
    old, new = dict(_leaves(point.card.recipe)), dict(_leaves(recipe))
    notes = []
    steps = [values.pop("trainer.max_steps", None) for values in (old, new)]
    differences = [
        f"{key} was {old.get(key)!r}, now {new.get(key)!r}"
        for key in sorted(old.keys() | new.keys())  # a key that one of them lacks is the same as null
        if old.get(key, _CAME_LATER.get(key)) != new.get(key, _CAME_LATER.get(key)) and not _may_change(key)
    ]
    if steps[0] != steps[1]:
        if isinstance(steps[0], int) and isinstance(steps[1], int) and steps[1] > steps[0] > 0:
            notes.append(
                f"trainer.max_steps grows from {steps[0]} to {steps[1]}: schedules that end with the run follow "
                "another curve from here on"
            )
        else:
            differences.append(f"trainer.max_steps was {steps[0]!r}, now {steps[1]!r}")
    if differences:
        more = [f"and {len(differences) - _SHOWN} more"] if len(differences) > _SHOWN else []
        raise AtrousError(
            f"{point.path} belongs to a run with another configuration ({'; '.join(differences[:_SHOWN] + more)}): "
            "leave these out to continue it, or start a new run from its weights with init_from=<checkpoint>"
        )
    return notes


def decides_the_curve(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a configuration, by dotted key, that a run of its own is needed for when they differ."""
    return {key: value for key, value in _leaves(recipe) if not _may_change(key) or key.endswith("upsampler.weights")}


def _may_change(key: str) -> bool:
    return any(key == part or key.startswith(f"{part}.") for part in MAY_CHANGE)


def _leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Values by dotted key."""
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
