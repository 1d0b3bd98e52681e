"""Images that tell the ranges of numbers inside a network."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from atrous.data import SegmentationDataModule
from atrous.exports import Calibrated
from atrous.geometry import Size
from atrous.models import Segmentor
from atrous.terminal import track


def calibration_images(
    data: SegmentationDataModule, form: Calibrated, segmentor: Segmentor
) -> Iterator[NDArray[np.uint8]]:
    """Images of the training split, evenly spaced over it.

    Args:
        data: The data set.
        form: Says how many, and their size if there is one.
        segmentor: Knows the mean color that small images are extended with.

    Yields:
        uint8 3×H×W.
    """
    dataset = data.dataset("train")
    count = min(form.images, len(dataset))
    places = np.linspace(0, len(dataset) - 1, count).round().astype(int)
    mean = segmentor.mean.round().to(torch.uint8).flatten().numpy()
    for place in track(places, "reading images for the ranges", total=count):
        image = dataset[int(place)].image.transpose(2, 0, 1)
        yield np.ascontiguousarray(image if form.size is None else _brought_to(image, form.size, mean))


def _brought_to(image: NDArray[np.uint8], size: Size, mean: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The upper left part of a large image, and a small one extended with the mean color."""
    height, width = size
    part = image[:, :height, :width]
    result = np.broadcast_to(mean[:, None, None], (3, height, width)).copy()
    result[:, : part.shape[1], : part.shape[2]] = part
    return result
