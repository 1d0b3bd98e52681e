"""Scores that a model reaches without knowing any shape: the bar that a trained model has to clear.

Two predictions are scored on any data set: the best constant class, and the most likely class of each pixel given
nothing but its own color. A network whose mIoU is not well above both has learned nothing about objects.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from atrous.data.dataset import SegmentationDataset
from atrous.data.statistics import Counts, count_colors
from atrous.errors import AtrousError
from atrous.metrics.confusion import Scores, scores_from_confusion

LEVELS = 16
"""Default number of steps into which each of red, green and blue is divided."""

SAMPLES = 300
"""Default number of training images that are looked at, spread evenly over the data set."""

_BACK_OFF_WEIGHT = (
    32.0  # A color counts on its own from about this many pixels; below that, its coarser neighborhood counts.
)


def score_baselines(
    train: SegmentationDataset,
    evaluation: SegmentationDataset,
    *,
    levels: int = LEVELS,
    samples: int | None = SAMPLES,
    folder: str | Path | None = None,
) -> dict[str, Scores]:
    """Score what is reached without looking at shape.

    Everything is chosen on ``train``: the constant class, the color table, and whether that table is weighted by how
    frequent the classes are. Only the scores come from ``evaluation``, where every pixel that is not ignored counts.

    Args:
        train: images to learn the colors from.
        evaluation: images to score, of the same label space.
        levels: steps per color channel: a power of two from 2 to 64.
        samples: number of training images used, evenly spread; None uses all.
        folder: where counts are kept for later runs; None counts anew.

    Returns:
        Scores under "constant" and "color".

    Raises:
        AtrousError: different label spaces, nothing labeled to learn from, impossible number of levels or samples.
    """
    if train.label_space != evaluation.label_space:
        raise AtrousError(
            f"baselines cannot learn from {train.label_space.name!r} and be scored on {evaluation.label_space.name!r}: "
            "give two splits of one data set."
        )
    if levels not in (2, 4, 8, 16, 32, 64):
        raise AtrousError(f"baselines cannot divide a color channel into {levels} levels: give 2, 4, 8, 16, 32 or 64.")
    if samples is not None and samples < 1:
        raise AtrousError(f"baselines cannot learn from {samples} images: give at least 1, or None for all.")
    seen = count_colors(train, levels=levels, samples=samples, folder=folder)
    if not seen.any():
        raise AtrousError(
            f"split {train.split!r} of {train.label_space.name!r} has no labeled pixel to learn baselines from: "
            "check its masks."
        )
    met = count_colors(evaluation, levels=levels, folder=folder)
    constant = _best(_constant_tables(seen), seen)
    color = _best(_color_tables(seen, levels=levels), seen)
    return {"constant": _scores(constant, met), "color": _scores(color, met)}


def _constant_tables(seen: Counts) -> list[Counts]:
    """One table (color -> class) for each class that never looks at the color."""
    colors, classes = seen.shape
    return [np.full(colors, label, np.int64) for label in range(classes)]


def _color_tables(seen: Counts, *, levels: int) -> list[Counts]:
    """Most likely class of each color: by the classes' real frequencies, and as if all were equally frequent."""
    frequency = seen.sum(axis=0) / seen.sum()
    posterior = _back_off(seen, frequency, levels=levels)
    # By Bayes' rule, dividing by the prior leaves the likelihood of the color; a class never seen stays impossible.
    likelihood = np.divide(posterior, frequency, out=np.zeros_like(posterior), where=frequency > 0)
    return [posterior.argmax(axis=1), likelihood.argmax(axis=1)]


def _back_off(seen: Counts, frequency: NDArray[np.float64], *, levels: int) -> NDArray[np.float64]:
    """Probability of each class given the color; a rare one relies on its neighbors, in cubes of twice the side."""
    if levels == 1:
        coarse = frequency[None]
        parent: NDArray[np.int64] = np.zeros(len(seen), np.int64)
    else:
        cube = seen.reshape(levels // 2, 2, levels // 2, 2, levels // 2, 2, -1)
        coarse = _back_off(cube.sum(axis=(1, 3, 5)).reshape(-1, seen.shape[1]), frequency, levels=levels // 2)
        half = np.arange(levels) // 2
        parent = ((half[:, None, None] * (levels // 2) + half[:, None]) * (levels // 2) + half).ravel()
    total = seen.sum(axis=1, keepdims=True)
    smooth: NDArray[np.float64] = (seen + _BACK_OFF_WEIGHT * coarse[parent]) / (total + _BACK_OFF_WEIGHT)
    return smooth


def _best(tables: list[Counts], seen: Counts) -> Counts:
    return max(tables, key=lambda table: _scores(table, seen).miou)


def _scores(table: Counts, counts: Counts) -> Scores:
    """Scores of predicting ``table[color]`` at every pixel that was counted."""
    classes = counts.shape[1]
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion.T, table, counts)
    return scores_from_confusion(torch.from_numpy(confusion))
