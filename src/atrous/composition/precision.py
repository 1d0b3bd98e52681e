"""``trainer.precision=auto``: the precision that is native to a GPU, or the faster one on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from omegaconf import DictConfig

from atrous.checkpoints.recipe import without_initial_weights
from atrous.checkpoints.resume import StartingPoint
from atrous.composition.build import plain
from atrous.composition.parts import build_segmentor
from atrous.losses import CrossEntropy
from atrous.models.atrous_convolution import compute_by
from atrous.training.precision import BF16, FLOAT32, measure_precisions

AUTO = "auto"


def keep_precision(config: DictConfig, resume: StartingPoint) -> None:
    """Let a continued run keep the precision that was decided when it was started."""
    recorded = resume.card.recipe.get("trainer", {}).get("precision")
    if config.trainer.get("precision") == AUTO and recorded is not None:
        config.trainer.precision = recorded


def decide_precision(config: DictConfig, num_classes: int) -> str | None:
    """Replace ``trainer.precision=auto`` in a configuration by the precision to train in.

    A GPU has bf16 if that is native. On a CPU a trial decides, except among several processes, which must agree: they
    have float32.

    Args:
        config: The whole configuration.
        num_classes: Number of classes.

    Returns:
        What was decided and why, in a sentence; ``None`` if the configuration names a precision.
    """
    if config.trainer.get("precision") != AUTO:
        return None
    precision, reason = _decide(config, num_classes)
    config.trainer.precision = precision
    return f"trainer.precision=auto is {precision}: {reason}"


def _decide(config: DictConfig, num_classes: int) -> tuple[str, str]:
    device = device_of(config.trainer)
    if device == "cuda":
        native = torch.cuda.get_device_capability() >= (8, 0)
        return (BF16, "native to this GPU") if native else (FLOAT32, "this GPU has no bf16")
    if device != "cpu":
        return FLOAT32, f"nothing else was tried on {device}"
    if config.trainer.get("devices", 1) != 1 or config.trainer.get("num_nodes", 1) != 1:
        return FLOAT32, "several processes do not try out which is faster"
    seconds = _try(config, num_classes)
    precision = min(seconds, key=lambda each: seconds[each])
    times = " and ".join(f"{time:.2f} s in {each}" for each, time in seconds.items())
    return precision, f"a step of two images takes {times}"


def device_of(trainer: DictConfig) -> str:
    """The kind of device that a ``trainer`` node means: ``cpu``, ``cuda``, ``mps``, or another one of Lightning's."""
    accelerator = str(trainer.get("accelerator", "auto"))
    available = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    return {"auto": available, "gpu": available}.get(accelerator, accelerator)


def _try(config: DictConfig, num_classes: int) -> dict[str, float]:
    """Seconds of a training step in each precision; draws no random number that the run would have drawn."""
    recipe: Any = without_initial_weights(plain(config.model))
    with torch.random.fork_rng(devices=[]):
        segmentor = build_segmentor(recipe, num_classes)
        if config.task.get("channels_last"):
            segmentor.to(memory_format=torch.channels_last)
        compute_by(segmentor, config.task.get("atrous_convolution", "auto"))
        if config.task.get("checkpoint_activations"):
            segmentor.checkpoint_activations()
        return measure_precisions(segmentor, CrossEntropy(), config.augment.crop_size)
