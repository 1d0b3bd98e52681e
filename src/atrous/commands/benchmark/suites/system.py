"""Prediction as a whole: network and later stages, image by image, as ``src/predict.py`` does them."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from atrous.commands.benchmark.turns import Timing, timing
from atrous.commands.predict.image_files import ImageFile, read_rgb
from atrous.commands.predict.predictor import Predictor
from atrous.commands.predict.result_files import ResultFiles
from atrous.composition import build
from atrous.composition.create import create_segmentor
from atrous.data.sets.voc import VOC_2012
from atrous.errors import AtrousError, require_range
from atrous.memory import keep_freed_memory
from atrous.terminal import say

PAPER = "DeepLabv1 (abstract, section 5): the network 8 frames/s on a Titan X, 10 iterations of the CRF 0.5 s"
STAGES = ("read", "network", "inference", "write")
"""Decoding a JPEG; images to logits; from those to a label map; PNG and overlay."""


def run(
    console: Console,
    *,
    networks: Sequence[Sequence[str]],
    inference: dict[str, Any],
    size: Sequence[int] = (375, 500),
    output_stride: int | None = None,
    precision: int | str = 32,
    overlay: bool = True,
    rounds: int = 9,
    threads: int = 2,
) -> dict[str, Any]:
    """Time the stages of a prediction, and print a table.

    The ratio is the network's share of the whole, so it hardly depends on the machine: 1 where what comes before and
    after the network costs nothing.

    Args:
        console: Where the table goes.
        networks: Model and backbone of each, with random weights and VOC's classes.
        inference: Node of the inference, as in ``src/predict.py``.
        size: Height and width of the image.
        output_stride: Output stride; ``None`` for each network's own.
        precision: ``32`` or ``bf16``.
        overlay: Draw overlays.
        rounds: How often an image is predicted, after one that does not count.
        threads: Threads of the processor.

    Returns:
        Milliseconds of every stage.

    Raises:
        AtrousError: An option is impossible.
    """
    for option, value in (("rounds", rounds), ("threads", threads), ("size", size)):
        require_range(f"system.{option}", value, at_least=1)
    if len(size) != 2:
        raise AtrousError(f"system.size={list(size)} must be height and width")
    for network in networks:
        if len(network) != 2:
            raise AtrousError(f"system.networks: {list(network)} must name model and backbone")
    kind = str(inference.get("_target_", "")).rpartition(".")[2]
    after = "" if kind == "WholeImage" else f" {kind}"
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    keep_freed_memory()  # as in prediction
    rows = []
    try:
        for model, backbone in networks:
            torch.manual_seed(0)
            segmentor = create_segmentor(
                model,
                backbone,
                num_classes=VOC_2012.num_classes,
                output_stride=output_stride,
                pretrained=False,
                overrides=(),
            ).eval()
            predictor = Predictor(segmentor, build(inference), device=torch.device("cpu"), precision=str(precision))
            stages = _time(predictor, segmentor, size=size, overlay=overlay, rounds=rounds)
            total = sum(stage.median for stage in stages.values())
            row = {
                "case": f"{model} {backbone} {size[0]}x{size[1]} os{segmentor.output_stride} {precision}{after}",
                "ms": {name: stage.to_dict() for name, stage in stages.items()},
                "images_per_second": 1000 / total,
                "ratio": stages["network"].median / total,
            }
            rows.append(row)
            say(console, f"{row['case']}: {1000 / total:.2f} images/s")
    finally:
        torch.set_num_threads(before)
    console.print(_table(rows, f"milliseconds an image, {threads} threads: median (quartiles)"))
    say(console, PAPER)
    return {"suite": "system", "rows": rows}


def _time(
    predictor: Predictor, network: torch.nn.Module, *, size: Sequence[int], overlay: bool, rounds: int
) -> dict[str, Timing]:
    """Milliseconds of every stage; the inference has what the whole prediction takes besides the network."""
    times: dict[str, list[float]] = {name: [] for name in STAGES}
    passes = _watch(network)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.jpg"
        _picture(size).save(path, quality=95)
        image, files = ImageFile(path, Path("image")), ResultFiles(Path(folder) / "out", VOC_2012, overlay=overlay)
        for number in range(rounds + 1):
            passes.clear()
            moments = [time.perf_counter()]
            rgb = read_rgb(path)
            moments.append(time.perf_counter())
            labels = predictor(np.stack([rgb]))[0]
            moments.append(time.perf_counter())
            files.write(image, rgb, labels)
            moments.append(time.perf_counter())
            if number > 0:
                read, predicted, written = (later - earlier for earlier, later in itertools.pairwise(moments))
                network_alone = sum(passes)
                spent = (read, network_alone, predicted - network_alone, written)
                for name, seconds in zip(STAGES, spent, strict=True):
                    times[name].append(1000 * seconds)
    return {name: timing(values) for name, values in times.items()}


def _watch(network: torch.nn.Module) -> list[float]:
    """A list that gets the seconds of every pass of a network."""
    seconds: list[float] = []
    starts: list[float] = []
    network.register_forward_pre_hook(lambda module, inputs: starts.append(time.perf_counter()))
    network.register_forward_hook(lambda module, inputs, output: seconds.append(time.perf_counter() - starts.pop()))
    return seconds


def _picture(size: Sequence[int]) -> Image.Image:
    """Smooth color with some noise, which is as hard to decode as a photograph."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((size[1], size[0]), Image.Resampling.BICUBIC), dtype=np.float64)
    return Image.fromarray(np.clip(smooth + rng.normal(0, 8, smooth.shape), 0, 255).astype(np.uint8))


def _table(rows: Sequence[dict[str, Any]], title: str) -> Table:
    table = Table("network", *STAGES, "images/s", "network's share", title=title)
    for row in rows:
        stages = [str(Timing(**row["ms"][name])) for name in STAGES]
        table.add_row(row["case"], *stages, f"{row['images_per_second']:.2f}", f"{row['ratio']:.0%}")
    return table
