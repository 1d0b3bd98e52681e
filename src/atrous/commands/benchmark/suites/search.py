"""A step of the search for an architecture: time and memory of its two halves, and what a whole search would take."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from atrous.commands.benchmark.turns import take_turns
from atrous.errors import AtrousError, require_range
from atrous.memory import forget_peak_memory, peak_memory
from atrous.models import Segmentor
from atrous.models.nas import SearchHead, Supernet
from atrous.models.nas.architecture import architecture_alone
from atrous.terminal import say

_EPOCHS, _WARMUP, _STEPS = 40, 20, 2975 // 2 // 2
"""Auto-DeepLab §4.1: of half of Cityscapes' training images, two a step."""


def run(
    console: Console,
    *,
    cases: Mapping[str, Mapping[str, Any]],
    layers: int = 12,
    width: int = 8,
    blocks: int = 5,
    crop: int = 321,
    batch: int = 2,
    classes: int = 19,
    aspp_channels: int = 256,
    stem: Sequence[int] = (64, 64, 128),
    rounds: int = 3,
    threads: int = 2,
    device: str = "auto",
) -> dict[str, Any]:
    """Time steps of searched networks in turn, and print a table.

    Args:
        console: Where the table goes.
        cases: By name: ``sampling``, ``partial_channels``, ``recompute`` (activations) and ``bf16``; the first is what
            the others are compared with.
        layers: Layers of the trellis.
        width: Channels of a block at stride 4.
        blocks: Blocks of a cell.
        crop: Height and width of the images.
        batch: Images a step.
        classes: Number of classes.
        aspp_channels: Channels of the ASPP at each stride.
        stem: Channels of the stem.
        rounds: Steps of each kind.
        threads: Threads of the processor.
        device: ``cpu``, ``cuda``, or ``auto`` for a GPU if there is one.

    Returns:
        Milliseconds and bytes of each case.

    Raises:
        AtrousError: A number is out of range, or a case has an unknown option.
    """
    for name, value in (("crop", crop), ("batch", batch), ("rounds", rounds), ("threads", threads)):
        require_range(f"search.{name}", value, at_least=1)
    device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    rows: list[dict[str, Any]] = []
    try:
        for name, options in cases.items():
            build = functools.partial(Supernet, layers=layers, width=width, blocks=blocks, stem=stem)
            steps = _Steps(build, options, name, classes=classes, aspp_channels=aspp_channels, device=device)
            rows.append({"case": name, **steps.measure(batch, crop, rounds)})
            say(console, f"{name}: measured")
    finally:
        torch.set_num_threads(before)
    table = Table(
        "",
        "weights, ms",
        "architecture, ms",
        "peak memory, GB",
        "40 epochs of Cityscapes, days",
        title=f"search, {device}",
    )
    for row in rows:
        weights, architecture = row["ms"]["weights"], row["ms"]["architecture"]
        steps_of = (_EPOCHS * weights["median"] + (_EPOCHS - _WARMUP) * architecture["median"]) * _STEPS
        row["days"] = steps_of / 1000 / 86400
        row["ratio"] = rows[0]["ms"]["weights"]["median"] / weights["median"]
        memory = "" if row["bytes"] is None else f"{row['bytes'] / 1e9:.2f}"
        table.add_row(
            row["case"], f"{weights['median']:.0f}", f"{architecture['median']:.0f}", memory, f"{row['days']:.1f}"
        )
    console.print(table)
    return {"suite": "search", "rows": rows}


class _Steps:
    """Steps of one network."""

    def __init__(
        self,
        build: Callable[..., Supernet],
        options: Mapping[str, Any],
        name: str,
        *,
        classes: int,
        aspp_channels: int,
        device: str,
    ) -> None:
        given = {"sampling": "all", "partial_channels": 1, "recompute": True, "bf16": False, **options}
        if unknown := sorted(set(given) - {"sampling", "partial_channels", "recompute", "bf16"}):
            raise AtrousError(
                f"search.cases.{name}.{unknown[0]} is unknown; choose sampling, partial_channels, recompute or bf16"
            )
        torch.manual_seed(0)
        self.supernet = build(sampling=given["sampling"], partial_channels=given["partial_channels"])
        head = functools.partial(SearchHead, aspp_channels=aspp_channels)
        self.network = Segmentor(backbone=self.supernet, head=head, num_classes=classes).to(device).train()
        if given["recompute"]:
            self.network.checkpoint_activations()
        self.bf16, self.device, self.classes = given["bf16"], device, classes
        learning = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.SGD(learning, lr=0.025, momentum=0.9, foreach=True)

    def measure(self, batch: int, crop: int, rounds: int) -> dict[str, Any]:
        """Time and peak memory."""
        generator = torch.Generator().manual_seed(0)
        image = torch.randint(0, 256, (batch, 3, crop, crop), generator=generator, dtype=torch.uint8).to(self.device)
        labels = torch.randint(0, self.classes, (batch, crop, crop), generator=generator).to(self.device)
        knows = self.device == "cuda" or forget_peak_memory()
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        timings = take_turns(
            {
                "weights": functools.partial(self.step_weights, image, labels),
                "architecture": functools.partial(self.step_architecture, image, labels),
            },
            rounds=rounds,
        )
        peak = torch.cuda.max_memory_allocated() if self.device == "cuda" else peak_memory()
        return {
            "ms": {name: timing.to_dict() for name, timing in timings.items()},
            "bytes": peak if knows else None,
        }

    def step_weights(self, image: Tensor, labels: Tensor) -> None:
        """Learn weights."""
        torch.autograd.backward(self._loss(image, labels))
        self.optimizer.step()
        self.optimizer.zero_grad()

    def step_architecture(self, image: Tensor, labels: Tensor) -> None:
        """Ask for the gradients of alpha and beta."""
        architecture = self.supernet.architecture
        with architecture_alone(self.network, architecture):
            loss = self._loss(image, labels)
            torch.autograd.grad(loss, (architecture.alpha, architecture.beta), allow_unused=True)

    def _loss(self, image: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.bf16):
            logits = self.network(image)
        return F.cross_entropy(logits.float(), labels)
