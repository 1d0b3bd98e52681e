"""Atrous convolutions of single layers, forward and backward: ours against ``F.conv2d``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from atrous.commands.benchmark.history import geometric_mean
from atrous.commands.benchmark.turns import take_turns
from atrous.errors import AtrousError, require_range
from atrous.models.atrous_convolution import WAYS, Taps, atrous_convolution, compiled
from atrous.terminal import say, track

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def run(
    console: Console,
    *,
    shapes: Sequence[Sequence[int]],
    precisions: Sequence[str] = ("fp32", "bf16"),
    ways: Sequence[str] = ("auto",),
    layer: str = "depthwise",
    rounds: int = 21,
    seconds: float = 5.0,
    threads: int = 2,
) -> dict[str, Any]:
    """Time layers whose maps lie with channels last, and print a table.

    Args:
        console: Where the table goes.
        shapes: Batch, channels, height and width of the map, kernel and rate of each layer.
        precisions: ``fp32`` and ``bf16``.
        ways: Ways of computing to compare with PyTorch's; the ratio is that of the first.
        layer: ``depthwise`` or ``full``.
        rounds: How often the contestants take turns.
        seconds: Rounds of a layer end early after this time.
        threads: Threads of the processor.

    Returns:
        Milliseconds and ratios of every layer, and the geometric mean of the ratios for each precision.

    Raises:
        AtrousError: An option is impossible.
    """
    for option, value in (("rounds", rounds), ("threads", threads)):
        require_range(f"convolution.{option}", value, at_least=1)
    _require_known("precisions", precisions, tuple(PRECISIONS))
    _require_known("ways", ways, WAYS)
    _require_known("layer", [layer], ("depthwise", "full"))
    for shape in shapes:
        if len(shape) != 5 or min(shape) < 1:
            raise AtrousError(f"convolution.shapes: {list(shape)} must name batch, channels, map, kernel and rate")
    cases = [(precision, tuple(shape)) for precision in precisions for shape in shapes]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        rows = [
            _measure(*case, ways, layer, rounds, seconds)
            for case in track(cases, "layers", total=len(cases), console=console)
        ]
    finally:
        torch.set_num_threads(before)
    table = Table(
        "",
        "batch, channels, map, kernel, rate",
        "F.conv2d, ms",
        *(f"{way}, ms" for way in ways),
        "ratio",
        title=f"{layer} layers, forward and backward, {threads} threads: median (quartiles)",
    )
    for row in rows:
        timings = row.pop("timings")
        times = [str(timings[name]) for name in ("F.conv2d", *ways)]
        table.add_row(row["precision"], ", ".join(map(str, row["shape"])), *times, f"{row['ratio']:.1f}x")
    console.print(table)
    means = {
        precision: geometric_mean([row["ratio"] for row in rows if row["precision"] == precision])
        for precision in precisions
    }
    for precision, mean in means.items():
        say(console, f"{precision}: geometric mean {mean:.2f}x")
    return {"suite": "convolution", "rows": rows, "means": means, "kernel": compiled.is_available()}


def _measure(
    precision: str, shape: tuple[int, ...], ways: Sequence[str], layer: str, rounds: int, seconds: float
) -> dict[str, Any]:
    batch, channels, side, kernel, rate = shape
    groups = channels if layer == "depthwise" else 1
    generator = torch.Generator().manual_seed(0)
    dtype = PRECISIONS[precision]
    feature, slope = (
        torch.randn(batch, channels, side, side, generator=generator)
        .to(dtype)
        .contiguous(memory_format=torch.channels_last)
        for _ in range(2)
    )
    weight = torch.randn(channels, channels // groups, kernel, kernel, generator=generator).to(dtype)
    feature.requires_grad_()
    weight.requires_grad_()
    taps = Taps((kernel, kernel), (rate, rate), padding=((kernel - 1) * rate // 2,) * 2)

    def step(way: str) -> tuple[Tensor, ...]:
        result = atrous_convolution(feature, weight, taps=taps, groups=groups, way=way)
        return torch.autograd.grad(result, (feature, weight), slope)

    contestants = {"F.conv2d": partial(step, "torch")} | {way: partial(step, way) for way in ways}
    timings = take_turns(contestants, rounds=rounds, seconds=seconds)
    return {
        "case": f"{precision} {layer} {'x'.join(map(str, shape))}",
        "precision": precision,
        "shape": list(shape),
        "ms": {name: timing.to_dict() for name, timing in timings.items()},
        "timings": timings,
        "ratio": timings["F.conv2d"].median / timings[ways[0]].median,
    }


def _require_known(option: str, values: Sequence[str], known: Sequence[str]) -> None:
    unknown = [value for value in values if value not in known]
    if unknown or not values:
        raise AtrousError(f"convolution.{option}={list(values)} is impossible; choose among {', '.join(known)}")
