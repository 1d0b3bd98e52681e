"""Augmentation on one core: ours against the plain albumentations chain."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from atrous.data.augment import Augmentation
from atrous.data.augment.naive import naive_chain
from atrous.data.dataset import RawSample
from atrous.errors import AtrousError, require_range
from atrous.terminal import track

_IMAGES = 8  # used in turn, so no image is still cached from the previous sample


def run(
    console: Console,
    *,
    cases: Sequence[Sequence[int]] = ((1024, 2048, 769), (375, 500, 513)),
    samples: int = 24,
    repetitions: int = 21,
) -> dict[str, Any]:
    """Time both chains in turn and print a table.

    A repetition is the mean over ``samples`` random samples of one chain, then of the other; the figure is the median
    of the repetitions. Only processor time of the calling thread is measured, so other programs interfere less.

    Args:
        console: Where the table goes.
        cases: Height and width of the image, and the crop.
        samples: Samples in a repetition.
        repetitions: How often the two chains take turns.

    Returns:
        Milliseconds per sample of both chains and their ratio for each case, and the versions of the libraries.

    Raises:
        AtrousError: A value is impossible.
    """
    require_range("augment.samples", samples, at_least=1)
    require_range("augment.repetitions", repetitions, at_least=1)
    for case in cases:
        require_range("augment.cases", case, at_least=1)
        if len(case) != 3:
            raise AtrousError(f"augment.cases={list(case)} must name height, width and crop")
    threads = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    try:
        rows = [_measure(console, *case, samples=samples, repetitions=repetitions) for case in cases]
    finally:
        cv2.setNumThreads(threads[0])
        torch.set_num_threads(threads[1])
    table = Table(
        "image", "crop", "albumentations chain", "ours", "ratio", title="augmentation, ms per sample, one core"
    )
    for row in rows:
        table.add_row(
            f"{row['height']}x{row['width']}",
            str(row["crop"]),
            f"{row['naive_ms']:.2f}",
            f"{row['ours_ms']:.2f}",
            f"{row['ratio']:.1f}x",
        )
    console.print(table)
    libraries = ("albumentations", "opencv-python-headless", "numpy", "torch")
    return {"suite": "augment", "rows": rows, "versions": {name: version(name) for name in libraries}}


def _measure(console: Console, height: int, width: int, crop: int, *, samples: int, repetitions: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    raws = [
        RawSample(
            np.asarray(cv2.GaussianBlur(rng.integers(0, 256, (height, width, 3), dtype=np.uint8), (0, 0), 1), np.uint8),
            rng.integers(0, 19, (height, width), dtype=np.uint8),
            f"{index}",
        )
        for index in range(_IMAGES)
    ]
    naive, ours = naive_chain(crop), Augmentation(crop)

    def run_naive(index: int) -> None:
        naive(image=raws[index % _IMAGES].image, mask=raws[index % _IMAGES].mask)

    def run_ours(index: int) -> None:
        ours(raws[index % _IMAGES], index)

    times: dict[str, list[float]] = {"naive": [], "ours": []}
    what = f"{height}x{width} crop {crop}"
    for repetition in track(range(repetitions), what, total=repetitions, console=console, lines=1):
        indices = range(repetition * samples, (repetition + 1) * samples)
        times["naive"].append(_milliseconds(run_naive, indices))
        times["ours"].append(_milliseconds(run_ours, indices))
    naive_ms, ours_ms = statistics.median(times["naive"]), statistics.median(times["ours"])
    return {
        "case": what,
        "height": height,
        "width": width,
        "crop": crop,
        "naive_ms": naive_ms,
        "ours_ms": ours_ms,
        "ratio": naive_ms / ours_ms,
    }


def _milliseconds(step: Callable[[int], None], indices: range) -> float:
    """Mean processor time of a step."""
    start = time.thread_time()
    for index in indices:
        step(index)
    return (time.thread_time() - start) / len(indices) * 1000
