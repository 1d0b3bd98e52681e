"""A step whose loss was not finite, computed again: where in the network it goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from atrous.commands.predict.predictor import choose_device
from atrous.composition import compose, recorded_overrides
from atrous.composition.parts import build_data, build_task
from atrous.errors import AtrousError, first_line
from atrous.terminal import say
from atrous.training import KeptBatch, SegmentationTask

_AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def run(console: Console, *, path: str | None = None, device: str = "cpu") -> dict[str, Any]:
    """Compute the losses of a kept batch with the weights of that step, and name the first layer that fails.

    Args:
        console: Where it is told.
        path: The file that the run has kept.
        device: Where to compute, such as ``cpu`` or ``cuda:1``; rounding differs between devices.

    Returns:
        The losses and what was found, for JSON.

    Raises:
        AtrousError: There is no such file, or it is of a search.
    """
    if path is None:
        raise AtrousError("replay.path is missing: give a file of a run's not_finite folder")
    kept = KeptBatch.read(path)
    task, precision = _task(kept, path)
    place = choose_device(device)
    task = task.to(place)
    task.train()
    batch = {**kept.batch, "image": kept.image.to(place), "mask": kept.mask.to(place)}
    torch.manual_seed(kept.seed)
    autocast = torch.autocast(place.type, _AUTOCAST.get(precision), enabled=precision in _AUTOCAST)
    with _first_failure(task.segmentor) as failures, autocast:
        losses, labels = task.losses(batch, step=kept.step)
    found = {name: float(loss.detach()) for name, loss in losses.items()}
    values = sorted({int(value) for label in labels.values() for value in torch.unique(label)})
    bad = [name for name, weight in task.named_parameters() if not weight.isfinite().all()]
    say(console, f"step {kept.step}, seed {kept.seed}, precision {precision}: {', '.join(kept.names)}")
    say(console, f"labels in the batch: {', '.join(map(str, values))}")
    for name, loss in found.items():
        say(console, f"loss of {name}: {loss:g} (all of them together in the run: {kept.loss:g})")
    if bad:
        say(console, f"weights that are not finite: {', '.join(bad)}")
    say(
        console,
        f"first result that is not finite: {failures[0]}" if failures else "the results of all layers are finite",
    )
    return {"step": kept.step, "losses": {name: str(loss) for name, loss in found.items()}, "first": failures[:1]}


def _task(kept: KeptBatch, path: str) -> tuple[SegmentationTask, str]:
    """The task of the run with the weights of the step, and the precision that it computed in."""
    if "search" in kept.card.recipe:
        raise AtrousError(f"{path} is of a search, whose steps cannot be computed again one by one")
    with compose("train", [*recorded_overrides(kept.card), "task.not_finite=null"]) as config:
        config.ckpt_path = path  # whose weights come instead of those that a run begins with
        task = build_task(config, build_data(config.data))
        precision, steps = str(config.trainer.precision), config.trainer.max_steps
    try:
        task.load_state_dict(dict(kept.weights))
    except RuntimeError as error:
        raise AtrousError(f"the weights in {path} are not those of its recipe ({first_line(error)})") from error
    task.segmentor.backbone.at_progress(kept.step / steps)
    return task, precision


@contextmanager
def _first_failure(network: nn.Module) -> Iterator[list[str]]:
    """Names of layers with a result that is not finite, in the order of computation."""
    failures: list[str] = []

    def watch(name: str, module: nn.Module) -> Any:
        def look(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.is_floating_point() and not output.isfinite().all():
                given = [each for each in inputs if isinstance(each, Tensor) and each.is_floating_point()]
                fine = all(bool(each.isfinite().all()) for each in given)
                failures.append(f"{name} ({type(module).__name__}){' of finite inputs' if fine else ''}")

        return module.register_forward_hook(look)

    layers = [(name, module) for name, module in network.named_modules() if not any(module.children())]
    handles = [watch(name, module) for name, module in layers]
    try:
        yield failures
    finally:
        for handle in handles:
            handle.remove()
