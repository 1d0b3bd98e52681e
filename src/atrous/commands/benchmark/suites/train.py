"""A whole training step, from a batch of uint8 images to updated weights: the same network here and at a peer."""

from __future__ import annotations

import copy
import gc
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from atrous.commands.benchmark.history import geometric_mean
from atrous.commands.benchmark.machine import measure
from atrous.commands.benchmark.mmseg_peer import NAME as MMSEG
from atrous.commands.benchmark.mmseg_peer import start_mmseg
from atrous.commands.benchmark.peers import CLASSES, build_pair
from atrous.commands.benchmark.profile import profile_step
from atrous.commands.benchmark.turns import Timing, take_turns
from atrous.composition.create import create_segmentor
from atrous.errors import AtrousError, require_range
from atrous.losses import CrossEntropy
from atrous.memory import keep_freed_memory
from atrous.models import Segmentor
from atrous.terminal import say
from atrous.training.full_size_loss import full_size_losses
from atrous.training.fused_optimizer import build_optimizer

PRECISIONS = ("fp32", "bf16")
_OURS, _DEFAULT, _RECOMPUTING = "ours", "default form", "ours, activations computed again"
_LAYOUTS = {"channels last": torch.channels_last, "channels first": torch.contiguous_format}


def run(
    console: Console,
    *,
    networks: Sequence[Mapping[str, Any]],
    crop: int = 321,
    output_stride: int = 16,
    batch: int = 4,
    precisions: Sequence[str] = ("fp32",),
    compile: bool = False,
    checkpoint_activations: bool = False,
    default_form: bool = True,
    rounds: int = 5,
    seconds: float = 60.0,
    threads: int = 2,
    mmseg_python: str | None = None,
) -> dict[str, Any]:
    """Time training steps and print a table.

    The peer is timed in both layouts of memory, and the ratio is taken to the faster one. Peers that demand it get
    images of a multiple of the output stride, one pixel less than the crop, and so does the same network here; our
    default form gets the crop.

    Args:
        console: Where the table goes.
        networks: ``peer``, ``model`` and ``backbone`` of each.
        crop: Height and width of the images, a multiple of the output stride plus one.
        output_stride: Output stride.
        batch: Images in a batch.
        precisions: ``fp32`` and ``bf16``.
        compile: Compile the networks, ours and theirs.
        checkpoint_activations: Time our network with activations that are computed again, too.
        default_form: Time our own form of the model too.
        rounds: How often the contestants take turns.
        seconds: Rounds of a network end early after this time.
        threads: Threads of the processor.
        mmseg_python: A Python that has mmsegmentation, for networks whose ``peer`` is ``mmseg``: its steps are done
            there. Memory and kinds of operations are then known of our network alone.

    Returns:
        Times, ratios, memory and shares of kinds of operations of every network.

    Raises:
        AtrousError: An option is impossible.
    """
    for option, value in (("crop", crop), ("rounds", rounds), ("threads", threads)):
        require_range(f"train.{option}", value, at_least=1)
    require_range("train.batch", batch, at_least=2)
    unknown = [precision for precision in precisions if precision not in PRECISIONS]
    if unknown:
        raise AtrousError(f"train.precisions={list(precisions)}: choose among {', '.join(PRECISIONS)}")
    if compile and checkpoint_activations:
        raise AtrousError("train.checkpoint_activations=true needs train.compile=false")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    keep_freed_memory()  # as in training; the peer has it too
    speeds = measure()
    peaks = {"fp32": speeds["float32_gflops"], "bf16": speeds["bfloat16_gflops"]}
    table = Table(
        *("network", "", "ours, ms", "theirs, ms", "ratio", "default form, ms", "ratio", "images/s", "memory, GB"),
        *("GFLOP/s (of a matrix product)", "time goes to"),
        title=f"training step, {batch} images of {crop}, output stride {output_stride}, {threads} threads"
        f"{', compiled' if compile else ''}: median (quartiles); ours (theirs)",
    )
    rows = []
    try:
        for precision in precisions:
            for network in networks:
                case = _Case(
                    **network,
                    side=crop,
                    output_stride=output_stride,
                    batch=batch,
                    precision=precision,
                    compile=compile,
                    threads=threads,
                )
                row = _measure(
                    case,
                    checkpoint_activations=checkpoint_activations,
                    default_form=default_form,
                    rounds=rounds,
                    seconds=seconds,
                    mmseg_python=mmseg_python,
                )
                rows.append(row)
                _show(table, row, peaks[precision])
                say(console, f"{row['case']}: {row['ratio']:.2f}x")
                if checkpoint_activations:
                    say(console, f"activations computed again: {_said(row['recomputing'])}")
    finally:
        torch.set_num_threads(before)
    console.print(table)
    means = {"same network": geometric_mean([row["ratio"] for row in rows])}
    if default_form:
        means["default form"] = geometric_mean([row["default_ratio"] for row in rows])
    for name, mean in means.items():
        say(console, f"{name}: geometric mean {mean:.2f}x")
    return {"suite": "train", "rows": rows, "means": means}


def _measure(
    case: _Case,
    *,
    checkpoint_activations: bool,
    default_form: bool,
    rounds: int,
    seconds: float,
    mmseg_python: str | None,
) -> dict[str, Any]:
    torch.compiler.reset()  # or what was compiled for networks before counts against a limit of this one
    with ExitStack() as stack:
        if case.peer == MMSEG:
            side = case.side
            network, elsewhere = start_mmseg(mmseg_python, stack, **case.network, options=case.options(side))
            theirs: dict[str, Callable[[], None]] = dict(elsewhere)
        else:
            pair = build_pair(case.peer, **case.network)
            network = pair.ours
            side = case.side // case.output_stride * case.output_stride if pair.whole_strides else case.side
            theirs = {layout: case.step(copy.deepcopy(pair.theirs), side, layout) for layout in _LAYOUTS}
        flops = 6 * case.batch * multiply_adds(network, side)  # forward, and twice that backward; 2 for each
        steps = {_OURS: case.step(network, side), **{f"theirs, {layout}": step for layout, step in theirs.items()}}
        if checkpoint_activations:
            recomputing = copy.deepcopy(network)
            recomputing.checkpoint_activations()
            steps[_RECOMPUTING] = case.step(recomputing, side)
        if default_form:
            steps[_DEFAULT] = case.step(
                create_segmentor(**case.network, num_classes=CLASSES, pretrained=False, overrides=()), case.side
            )
        timings = take_turns(steps, rounds=rounds, seconds=seconds)
        fastest = min((name for name in timings if name.startswith("theirs")), key=lambda name: timings[name].median)
        watched = [_OURS, _RECOMPUTING, *([] if case.peer == MMSEG else [fastest])]
        profiles = {name: profile_step(steps[name]) for name in watched if name in steps}
    gc.collect()
    row: dict[str, Any] = {
        "case": str(case),
        "ms": {name: timing.to_dict() for name, timing in timings.items()},
        "theirs": fastest,
        "ratio": timings[fastest].median / timings[_OURS].median,
        "images_per_second": 1000 * case.batch / timings[_OURS].median,
        "gflops": {name: flops / timings[name].median / 1e6 for name in (_OURS, fastest)},
        "memory_gb": {name: peak / 2**30 for name, (_, peak) in profiles.items()},
        "kinds": {
            name: {kind: round(share, 3) for kind, share in shares.items()} for name, (shares, _) in profiles.items()
        },
    }
    if default_form:
        row["default_ratio"] = timings[fastest].median / timings[_DEFAULT].median
    if checkpoint_activations:
        row["recomputing"] = {
            "time": timings[_RECOMPUTING].median / timings[_OURS].median,
            "memory": profiles[_RECOMPUTING][1] / profiles[_OURS][1],
        }
    return row


@dataclass(frozen=True)
class _Case:
    """A network and how its steps are done."""

    peer: str
    model: str
    backbone: str
    side: int
    output_stride: int
    batch: int
    precision: str
    compile: bool
    threads: int

    @property
    def network(self) -> dict[str, Any]:
        return {"model": self.model, "backbone": self.backbone, "output_stride": self.output_stride}

    def step(self, network: nn.Module, side: int, layout: str = "channels last") -> Callable[[], None]:
        return training_step(network, self.batch, side, self.precision, layout, compile=self.compile)

    def options(self, side: int) -> dict[str, Any]:
        """What a step in another Python has to know."""
        names = ("batch", "precision", "compile", "threads")
        return {"side": side, **{name: getattr(self, name) for name in names}}

    def __str__(self) -> str:
        form = f"{self.side} os{self.output_stride} {self.precision}{' compiled' if self.compile else ''}"
        return f"{self.peer} {self.model} {self.backbone} {form}"


def training_step(
    network: nn.Module, batch: int, side: int, precision: str, layout: str, *, compile: bool
) -> Callable[[], None]:
    """What is timed: forward, cross-entropy at full size, backward and an update of the weights."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (batch, 3, side, side), generator=generator, dtype=torch.uint8)
    mask = torch.randint(0, CLASSES, (batch, side, side), generator=generator, dtype=torch.uint8)
    network.train().to(memory_format=_LAYOUTS[layout])
    image = image.contiguous(memory_format=_LAYOUTS[layout])
    sgd = partial(torch.optim.SGD, lr=1e-3, momentum=0.9, weight_decay=4e-5)
    parameters = list(network.parameters())
    # ours as this program trains, a peer's as PyTorch's optimizers come
    optimizer = build_optimizer(sgd, [{"params": parameters}]) if isinstance(network, Segmentor) else sgd(parameters)
    loss = CrossEntropy()
    if compile:
        network.compile(dynamic=False)

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            if isinstance(network, Segmentor):
                (value,) = full_size_losses(network, loss, image, mask).values()
            else:
                value = loss(network(image), mask)
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def multiply_adds(network: nn.Module, side: int) -> int:
    """Of the convolutions, for one image, forward."""
    counted: list[int] = []

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d)
        counted.append(layer.weight.numel() * output.shape[-2] * output.shape[-1])

    handles = [layer.register_forward_hook(count) for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    training = network.training
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, side, side, dtype=torch.uint8))
    network.train(training)
    for handle in handles:
        handle.remove()
    return sum(counted)


def _said(recomputing: Mapping[str, float]) -> str:
    return f"{recomputing['time']:.2f} times the time, {recomputing['memory']:.2f} times the memory"


def _show(table: Table, row: dict[str, Any], peak: float) -> None:
    theirs = row["theirs"]
    name, _, precision = row["case"].rpartition(" ")
    timings = {each: Timing(**values) for each, values in row["ms"].items()}
    kinds = sorted(row["kinds"]["ours"].items(), key=lambda item: -item[1])[:4]
    default = ("", "")
    if "default_ratio" in row:
        default = (str(timings["default form"]), f"{row['default_ratio']:.2f}x")
    table.add_row(
        name,
        precision,
        str(timings["ours"]),
        f"{timings[theirs]} {theirs.removeprefix('theirs, ')}",
        f"{row['ratio']:.2f}x",
        *default,
        f"{row['images_per_second']:.1f}",
        f"{row['memory_gb'][_OURS]:.2f} ({row['memory_gb'].get(theirs, math.nan):.2f})",
        f"{row['gflops']['ours']:.0f} ({row['gflops']['ours'] / peak:.0%})",
        ", ".join(f"{kind} {share:.0%}" for kind, share in kinds),
    )
