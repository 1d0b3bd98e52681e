"""Memory that one process holds in training, counted tensor by tensor without computing anything."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from atrous.composition.create import create_segmentor
from atrous.errors import AtrousError, require_range
from atrous.losses import CrossEntropy
from atrous.models import Segmentor
from atrous.models.nas import SearchHead, Supernet
from atrous.terminal import say
from atrous.training.full_size_loss import full_size_losses

_COPIES = 3
"""Weights, their gradients, and SGD's momentum, in float32."""
_OPTIONS = {"model": None, "backbone": None, "search": None, "classes": 21, "images": 1, "crop": 513}


def run(
    console: Console, *, cases: Mapping[str, Mapping[str, Any]], processes: Sequence[int] = (1, 8)
) -> dict[str, Any]:
    """Count what is held between the way forward and the way back, and print a table.

    Args:
        console: Where the table goes.
        cases: By name: ``model`` and ``backbone``, or ``search`` with ``layers``, ``width`` and ``blocks`` of a
            supernet; ``classes``, ``images`` of one process, and ``crop``, one side or height and width.
        processes: Numbers of processes that share weights, gradients and momentum.

    Returns:
        Bytes for each case.

    Raises:
        AtrousError: An option is unknown or out of range.
    """
    require_range("training_memory.processes", processes, at_least=1)
    rows = []
    for name, options in cases.items():
        rows.append({"case": name, **_count(name, {**_OPTIONS, **options}, processes)})
        say(console, f"{name}: counted")
    shared = [f"shared by {number}" for number in processes if number > 1]
    table = Table(
        "", "weights, gradients, momentum", *shared, "activations", "computed again", title="GB of one process, float32"
    )
    for row in rows:
        shares = [row["shared"][number] for number in processes if number > 1]
        numbers = (row["learning"], *shares, row["activations"], row["computed_again"])
        table.add_row(row["case"], *(f"{number / 1e9:.2f}" for number in numbers))
    console.print(table)
    return {"suite": "training_memory", "rows": rows}


@dataclass
class Held:
    """Bytes that wait for the way back.

    Attributes:
        activations: All of them.
        largest_unit: Those inside the unit of a network that has the most.
    """

    activations: int
    largest_unit: int


def count_activations(segmentor: Segmentor, image: Tensor, mask: Tensor) -> Held:
    """Add up the storages that autograd keeps of a step with the cross-entropy; on the meta device it computes nothing.

    Args:
        segmentor: The network, on the device of the images.
        image: B×3×H×W, uint8.
        mask: B×H×W.
    """
    own = {tensor.untyped_storage()._cdata for tensor in (*segmentor.parameters(), *segmentor.buffers())}
    held: dict[int, Tensor] = {}  # one tensor of each storage, which keeps its address its own
    before, inside = [0], [0]

    def total() -> int:
        return sum(tensor.untyped_storage().nbytes() for tensor in held.values())

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage()._cdata not in own:
            held.setdefault(tensor.untyped_storage()._cdata, tensor)
        return tensor

    def enter(unit: nn.Module, inputs: Any) -> None:
        before[0] = total()

    def leave(unit: nn.Module, inputs: Any, outputs: Any) -> None:
        inside.append(total() - before[0])

    hooks = [unit.register_forward_pre_hook(enter) for unit in segmentor.units()]
    hooks += [unit.register_forward_hook(leave) for unit in segmentor.units()]
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        full_size_losses(segmentor, CrossEntropy(), image, mask)
    for hook in hooks:
        hook.remove()
    return Held(total(), max(inside))


def _count(name: str, options: Mapping[str, Any], processes: Sequence[int]) -> dict[str, Any]:
    if unknown := sorted(options.keys() - _OPTIONS.keys()):
        raise AtrousError(
            f"training_memory.cases.{name}.{unknown[0]} is unknown; choose one of {', '.join(sorted(_OPTIONS))}"
        )
    for key in ("classes", "images", "crop"):
        require_range(f"training_memory.cases.{name}.{key}", options[key], at_least=1)
    side = options["crop"]
    height, width = (side, side) if isinstance(side, int) else side
    segmentor = _network(name, options).to("meta").to(memory_format=torch.channels_last).train()
    image = torch.empty(options["images"], 3, height, width, dtype=torch.uint8, device="meta")
    image = image.contiguous(memory_format=torch.channels_last)
    mask = torch.empty(options["images"], height, width, dtype=torch.long, device="meta")
    kept = count_activations(segmentor, image, mask)
    weights = sum(tensor.nbytes for tensor in segmentor.parameters() if tensor.requires_grad)
    whole = _together(segmentor)
    segmentor.checkpoint_activations()
    inputs = count_activations(segmentor, image, mask)
    return {
        **asdict(kept),
        "learning": _COPIES * weights,
        "shared": {number: _COPIES * weights // number + (2 * whole if number > 1 else 0) for number in processes},
        "computed_again": inputs.activations + kept.largest_unit,
    }


def _together(segmentor: Segmentor) -> int:
    """Bytes of weights that a process has whole at once: those outside of all units, and the largest unit's."""
    known = set(segmentor.modules())
    parts = [part for unit in segmentor.units() for part in ([unit] if unit in known else unit.children())]
    sizes = [sum(tensor.nbytes for tensor in part.parameters() if tensor.requires_grad) for part in parts]
    everything = sum(tensor.nbytes for tensor in segmentor.parameters() if tensor.requires_grad)
    return everything - sum(sizes) + max(sizes)


def _network(name: str, options: Mapping[str, Any]) -> Segmentor:
    if (options["search"] is None) == (options["model"] is None or options["backbone"] is None):
        raise AtrousError(f"training_memory.cases.{name} needs either model and backbone, or search")
    if options["search"] is None:
        return create_segmentor(
            options["model"],
            options["backbone"],
            num_classes=options["classes"],
            output_stride=None,
            pretrained=False,
            overrides=(),
        )
    return Segmentor(
        backbone=Supernet(stem=(64, 64, 128), **options["search"]),
        head=functools.partial(SearchHead, aspp_channels=256),
        num_classes=options["classes"],
    )
