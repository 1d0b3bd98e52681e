"""Statistics of a data set, counted once and kept for later runs: pixels by class in every mask, classes by color."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from atrous.atomic_file import atomic_file
from atrous.data.dataset import SegmentationDataset
from atrous.terminal import track

Counts = NDArray[np.int64]
_FORMAT = 1


@dataclass(frozen=True)
class ClassCounts:
    """The classes in the masks of a data set.

    Attributes:
        pixels: Number of pixels of each class (columns) in each mask (rows), int64; ignored ones are not counted.
    """

    pixels: Counts

    @property
    def occurs(self) -> NDArray[np.bool_]:
        """Whether a class is in a mask: images×classes."""
        return self.pixels > 0

    def median_frequency_weights(self) -> list[float]:
        """Median-frequency balancing (Eigen & Fergus 2015; SegNet §4), one weight per class.

        The frequency of a class is its share of the pixels in the images where it occurs; its weight is the median of
        all frequencies over its own. A class that does not occur has weight 1.
        """
        own = self.pixels.sum(axis=0)
        around = np.where(self.occurs, self.pixels.sum(axis=1, keepdims=True), 0).sum(axis=0)
        present = own > 0
        frequency = own[present] / around[present]
        weights = np.ones(self.pixels.shape[1])
        weights[present] = np.median(frequency) / frequency
        return [float(weight) for weight in weights]


def count_classes(dataset: SegmentationDataset, *, folder: str | Path | None = None) -> ClassCounts:
    """Count the pixels of every class in every mask.

    Args:
        dataset: Its masks are read once; images are not looked at.
        folder: Where the counts are kept, and looked for first; ``None`` to count anew.
    """

    def count() -> Counts:
        classes = dataset.label_space.num_classes
        pixels = np.zeros((len(dataset), classes), dtype=np.int64)
        what = f"counting classes of {dataset.label_space.name} {dataset.split}"
        for index in track(range(len(dataset)), what, total=len(dataset), lines=1):
            pixels[index] = np.bincount(dataset.mask(index).ravel(), minlength=256)[:classes]
        return pixels

    return ClassCounts(_kept(dataset, "classes", count, folder))


def count_colors(
    dataset: SegmentationDataset, *, levels: int, samples: int | None = None, folder: str | Path | None = None
) -> Counts:
    """Count the pixels of every class by their color: levels³×classes.

    Args:
        dataset: Its images and masks are read.
        levels: Steps into which each of red, green and blue is divided: a power of two. Rows count red, green, blue.
        samples: Number of images that are looked at, evenly spread; ``None`` for all.
        folder: Where the counts are kept, and looked for first; ``None`` to count anew.
    """
    chosen = len(dataset) if samples is None else min(samples, len(dataset))

    def count() -> Counts:
        classes = dataset.label_space.num_classes
        counts = np.zeros(levels**3 * classes, np.int64)
        shift = 8 - levels.bit_length() + 1
        what = f"counting colors of {dataset.label_space.name} {dataset.split}"
        for step in track(range(chosen), what, total=chosen, lines=1):
            sample = dataset[step * len(dataset) // chosen]
            labeled = sample.mask != dataset.label_space.ignore_index
            red, green, blue = (sample.image[..., channel][labeled].astype(np.int64) >> shift for channel in range(3))
            cell = ((red * levels + green) * levels + blue) * classes + sample.mask[labeled]
            counts += np.bincount(cell, minlength=counts.size)
        return counts.reshape(-1, classes)

    return _kept(dataset, f"colors {levels} {chosen}", count, folder)


def _kept(dataset: SegmentationDataset, what: str, count: Callable[[], Counts], folder: str | Path | None) -> Counts:
    """Counts from a file whose name depends on the labels and what is counted; counted and saved if missing.

    A file that is missing or damaged is written again; if the folder is not writable, the next run counts again.
    """
    if folder is None:
        return count()
    digest = hashlib.sha256(
        f"{_FORMAT} {what} {dataset.fingerprint(images=what.startswith('colors'))}".encode()
    ).hexdigest()[:16]
    file = Path(folder) / f"{dataset.label_space.name}_{dataset.split}_{what.split()[0]}_{digest}.npy"
    try:
        kept: Counts = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        kept = np.empty(0, np.int64)
    if kept.ndim == 2 and kept.dtype == np.int64 and kept.shape[1] == dataset.label_space.num_classes:
        return kept
    counts = count()
    try:
        with atomic_file(file) as opened:
            np.save(opened, counts)
    except OSError:
        return counts
    return counts
