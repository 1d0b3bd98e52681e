"""A shrunk data set against sums by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from atrous.data.dataset import RawSample, SegmentationDataset
from atrous.data.loading.shrunk import ShrunkDataset
from atrous.data.sets.shapes import SHAPES
from atrous.errors import AtrousError


class One(SegmentationDataset):
    """One image of random pixels."""

    def __init__(self, height: int, width: int) -> None:
        rng = np.random.default_rng(0)
        self.label_space, self.split, self.names = SHAPES, "val", ["one"]
        self._image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        self._mask: NDArray[np.uint8] = rng.integers(0, 8, (height, width), dtype=np.uint8)

    def __getitem__(self, index: int) -> RawSample:
        return RawSample(self._image, self._mask, "one")


@pytest.mark.parametrize(("height", "width", "factor"), [(8, 12, 2), (9, 13, 2), (10, 11, 3), (7, 9, 4)])
def test_pixels_are_means_and_labels_are_those_in_the_middle(height: int, width: int, factor: int) -> None:
    whole = One(height, width)
    image, mask, name = ShrunkDataset(whole, factor)[0]
    assert name == "one"
    assert image.shape == (height // factor, width // factor, 3)
    assert mask.shape == image.shape[:2]
    for row in range(mask.shape[0]):
        for column in range(mask.shape[1]):
            cell = np.s_[factor * row : factor * (row + 1), factor * column : factor * (column + 1)]
            assert np.abs(image[row, column] - whole._image[cell].mean(axis=(0, 1))).max() <= 0.5
            assert mask[row, column] == whole._mask[cell][factor // 2, factor // 2]


def test_what_is_known_without_the_image_agrees() -> None:
    shrunk = ShrunkDataset(One(9, 13), 2)
    assert shrunk.image_size(0) == shrunk[0].mask.shape == (4, 6)
    assert (shrunk.mask(0) == shrunk[0].mask).all()
    assert shrunk.fingerprint() != ShrunkDataset(One(9, 13), 3).fingerprint() != One(9, 13).fingerprint()


def test_an_image_that_vanishes_is_named() -> None:
    with pytest.raises(AtrousError, match=r"nothing is left of one \(9x3 pixels\) with data.shrink=4"):
        ShrunkDataset(One(9, 3), 4)[0]
