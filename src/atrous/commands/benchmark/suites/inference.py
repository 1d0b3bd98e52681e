"""Prediction of the same network, here and at a peer: latency and throughput, as it is and in its fastest form."""

from __future__ import annotations

import copy
import importlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from atrous.checkpoints.foreign import translate_file
from atrous.commands.benchmark.history import geometric_mean
from atrous.commands.benchmark.peers import build_pair
from atrous.commands.benchmark.turns import Timing, take_turns
from atrous.composition.parts import build_segmentor
from atrous.errors import AtrousError, require_range
from atrous.memory import keep_freed_memory
from atrous.models import Segmentor
from atrous.terminal import say

PRECISIONS = ("fp32", "bf16")
FORMS = ("eager", "folded", "compiled", "bf16")
"""As it is; with batch norms folded into convolutions; that compiled; and folded, but in bf16."""

_LAYOUTS = {"channels last": torch.channels_last, "channels first": torch.contiguous_format}


@dataclass(frozen=True)
class _Turns:
    """How often contestants take turns, and for how long."""

    rounds: int
    seconds: float

    def take(self, contestants: Mapping[str, Callable[[], object]]) -> dict[str, Timing]:
        return take_turns(contestants, rounds=self.rounds, seconds=self.seconds)


def run(
    console: Console,
    *,
    networks: Sequence[Mapping[str, Any]],
    cases: Sequence[Sequence[int]] = ((1, 513, 513), (8, 513, 513), (1, 1024, 2048)),
    output_stride: int = 16,
    precisions: Sequence[str] = ("fp32",),
    forms: Sequence[str] = FORMS,
    tflite: str | None = None,
    rounds: int = 7,
    seconds: float = 30.0,
    threads: int = 2,
) -> dict[str, Any]:
    """Time networks from uint8 images to logits of their size, and print a table.

    The peer runs as it comes, in both layouts of memory, and the ratios are to the faster one: of our network as it
    comes, and of its fastest form. Some peers demand images of a multiple of the output stride; the same network here
    gets them too.

    Args:
        console: Where the table goes.
        networks: ``peer``, ``model`` and ``backbone`` of each.
        cases: Batch, height and width of the images.
        output_stride: Output stride.
        precisions: ``fp32`` and ``bf16``.
        forms: Forms of our network to time, some of ``FORMS``; ``eager`` is always one of them.
        tflite: Google's float TFLite file of DeepLabv3, whose interpreter is then a peer too; ``None`` for none.
        rounds: How often the contestants take turns.
        seconds: Rounds of a network end early after this time, but not before the third.
        threads: Threads of the processor.

    Returns:
        Times and ratios of every network, and geometric means of the ratios.

    Raises:
        AtrousError: An option is impossible.
    """
    for option, value in (("rounds", rounds), ("threads", threads)):
        require_range(f"inference.{option}", value, at_least=1)
    for option, values, known in (("precisions", precisions, PRECISIONS), ("forms", forms, FORMS)):
        if unknown := [value for value in values if value not in known]:
            raise AtrousError(f"inference.{option}={list(values)}: {unknown[0]} is none of {', '.join(known)}")
    for case in cases:
        if len(case) != 3 or min(case) < 1:
            raise AtrousError(f"inference.cases: {list(case)} must name batch, height and width of images")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    keep_freed_memory()  # as in prediction; the peer has it too
    turns = _Turns(rounds, seconds)
    rows = []
    try:
        for precision, network, case in itertools.product(precisions, networks, cases):
            row = _against_a_peer(
                **network, case=case, stride=output_stride, precision=precision, forms=forms, turns=turns
            )
            rows.append(row)
            say(console, f"{row['case']}: {row['ratio']:.2f}x, best {row['best_ratio']:.2f}x")
        means = _means(rows)
        if tflite is not None:
            rows.append(_against_an_interpreter(Path(tflite), threads=threads, forms=forms, turns=turns))
    finally:
        torch.set_num_threads(before)
    console.print(_table(rows, forms, f"images to logits, {threads} threads: median milliseconds (quartiles)"))
    for name, mean in means.items():
        say(console, f"{name}: geometric mean {mean:.2f}x")
    return {"suite": "inference", "rows": rows, "means": means}


def _against_a_peer(
    *,
    peer: str,
    model: str,
    backbone: str,
    case: Sequence[int],
    stride: int,
    precision: str,
    forms: Sequence[str],
    turns: _Turns,
) -> dict[str, Any]:
    batch, *size = case
    torch.compiler.reset()  # or what was compiled for networks before counts against a limit of this one
    pair = build_pair(peer, model, backbone, stride)
    height, width = (extent // stride * stride if pair.whole_strides else extent for extent in size)
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (batch, 3, height, width), generator=generator, dtype=torch.uint8)
    predict = partial(_predict, image=image, precision=precision)
    theirs = {
        f"theirs, {name}": partial(predict, copy.deepcopy(pair.theirs).eval().to(memory_format=layout), layout=layout)
        for name, layout in _LAYOUTS.items()
    }
    ours = {
        f"ours, {name}": partial(predict, form, **({"precision": "bf16"} if name == "bf16" else {}))
        for name, form in forms_of(pair.ours, forms).items()
    }
    return _row(
        f"{peer} {model} {backbone} {batch}x{size[0]}x{size[1]} os{stride} {precision}",
        turns.take({**ours, **theirs}),
        batch,
    )


def forms_of(segmentor: Segmentor, wanted: Sequence[str]) -> dict[str, nn.Module]:
    """A network with channels last in the forms that are wanted, by name."""
    forms: dict[str, nn.Module] = {"eager": segmentor.eval().to(memory_format=torch.channels_last)}
    for name in wanted:
        if name != "eager":
            forms[name] = segmentor.folded().to(memory_format=torch.channels_last)
        if name == "compiled":
            forms[name].compile(dynamic=False)
    return forms


@torch.inference_mode()
def _predict(
    network: nn.Module, image: Tensor, precision: str, layout: torch.memory_format = torch.channels_last
) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
        logits: Tensor = network(image.contiguous(memory_format=layout))
    return logits


def _against_an_interpreter(path: Path, *, threads: int, forms: Sequence[str], turns: _Turns) -> dict[str, Any]:
    translation = translate_file("tflite", path)
    segmentor = build_segmentor(translation.model, translation.num_classes)
    segmentor.load_state_dict(translation.state)
    interpret, height, width = _interpreter(path, threads)
    image = torch.randint(0, 256, (1, 3, height, width), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    ours = {
        f"ours, {name}": partial(_predict, form, image=image, precision="bf16" if name == "bf16" else "fp32")
        for name, form in forms_of(segmentor, forms).items()
    }
    timings = turns.take({**ours, "theirs, interpreter": partial(interpret, image)})
    return _row(f"tflite {path.stem} 1x{height}x{width} fp32", timings, 1)


def _interpreter(path: Path, threads: int) -> tuple[Callable[[Tensor], Tensor], int, int]:
    """What computes logits 1×C×H×W of an image with TensorFlow Lite, and the height and width that it takes."""
    litert: Any = importlib.import_module("ai_edge_litert.interpreter")  # it was there to read the file
    interpreter = litert.Interpreter(model_path=str(path), num_threads=threads)
    interpreter.allocate_tensors()
    given, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def compute(image: Tensor) -> Tensor:
        pixels = image.permute(0, 2, 3, 1).numpy().astype(np.float32) / 127.5 - 1
        interpreter.set_tensor(given["index"], pixels)
        interpreter.invoke()
        return torch.from_numpy(interpreter.get_tensor(result["index"])).permute(0, 3, 1, 2)

    _, height, width, _ = (int(extent) for extent in given["shape"])
    return compute, height, width


def _row(case: str, timings: Mapping[str, Timing], batch: int) -> dict[str, Any]:
    theirs = min((name for name in timings if name.startswith("theirs")), key=lambda name: timings[name].median)
    best = min((name for name in timings if name.startswith("ours")), key=lambda name: timings[name].median)
    return {
        "case": case,
        "ms": {name: timing.to_dict() for name, timing in timings.items()},
        "theirs": theirs,
        "best": best,
        "ratio": timings[theirs].median / timings["ours, eager"].median,
        "best_ratio": timings[theirs].median / timings[best].median,
        "images_per_second": 1000 * batch / timings[best].median,
    }


def _means(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Geometric means of the ratios of every form, and of each network's fastest."""
    means = {
        name.removeprefix("ours, "): geometric_mean(
            [row["ms"][row["theirs"]]["median"] / row["ms"][name]["median"] for row in rows]
        )
        for name in (rows[0]["ms"] if rows else ())
        if name.startswith("ours")
    }
    return means | ({"best form": geometric_mean([row["best_ratio"] for row in rows])} if rows else {})


def _table(rows: Sequence[Mapping[str, Any]], forms: Sequence[str], title: str) -> Table:
    shown = ["eager", *(form for form in forms if form != "eager")]
    table = Table("network", *(f"ours, {form}" for form in shown), "theirs", "ratio", "best", "images/s", title=title)
    for row in rows:
        timings = {name: Timing(**values) for name, values in row["ms"].items()}
        table.add_row(
            row["case"],
            *(str(timings[f"ours, {form}"]) for form in shown),
            f"{timings[row['theirs']]} {row['theirs'].removeprefix('theirs, ')}",
            f"{row['ratio']:.2f}x",
            f"{row['best_ratio']:.2f}x {row['best'].removeprefix('ours, ')}",
            f"{row['images_per_second']:.1f}",
        )
    return table
