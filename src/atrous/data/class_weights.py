"""Class weights from the frequency of the classes."""

from __future__ import annotations

import numpy as np
from rich.progress import track

from atrous.data.dataset import SegmentationDataset


def median_frequency_weights(dataset: SegmentationDataset, *, limit: int = 1000) -> list[float]:
    """Median-frequency balancing (Eigen & Fergus 2015; SegNet §4).

    The frequency of a class is its share of the pixels in the images where it occurs; its weight is the median of all
    frequencies over its own. A class that does not occur has weight 1.

    Args:
        dataset: Training data; images are not looked at.
        limit: At most this many samples, evenly spaced.
    """
    classes = dataset.label_space.num_classes
    own = np.zeros(classes)
    around = np.zeros(classes)
    indices = np.linspace(0, len(dataset) - 1, min(limit, len(dataset))).round().astype(int)
    for index in track(indices.tolist(), description="class weights"):
        counts = np.bincount(dataset.mask(index).ravel(), minlength=256)[:classes]
        own += counts
        around += np.where(counts > 0, counts.sum(), 0)
    occurs = own > 0
    frequency = own[occurs] / around[occurs]
    weights = np.ones(classes)
    weights[occurs] = np.median(frequency) / frequency
    return [float(weight) for weight in weights]
