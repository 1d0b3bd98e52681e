"""How often images are drawn, against counting by hand, and what the stream makes of it."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from atrous.data import LabelSpace, RawSample, SegmentationDataset
from atrous.data.repeats import image_repeats
from atrous.data.sampling import TrainingStream
from atrous.errors import AtrousError


class Masks(SegmentationDataset):
    """Masks of one row."""

    def __init__(self, *rows: list[int]) -> None:
        self.label_space = LabelSpace("toy", ("ground", "cat", "bus"), ((0, 0, 0), (1, 1, 1), (2, 2, 2)))
        self.split = "train"
        self.names = [str(i) for i in range(len(rows))]
        self._masks = [np.array([row], dtype=np.uint8) for row in rows]

    def __getitem__(self, index: int) -> RawSample:
        raise AssertionError("images are not to be read for counting classes")

    def mask(self, index: int) -> NDArray[np.uint8]:
        return self._masks[index]


def test_rare_classes_are_drawn_by_the_root_of_their_rarity() -> None:
    """Of 50 images all show ground, ten a cat, two a bus: √(0.5/0.2) = 1.6 → 2 draws, √(0.5/0.04) = 3.5 → 4."""
    assert (math.sqrt(0.5 / 0.2), math.sqrt(0.5 / 0.04)) == pytest.approx((1.581, 3.536), abs=1e-3)
    dataset = Masks(*[[0, 1]] * 9, [0, 1, 2], [0, 2], *[[0, 255]] * 39)
    assert image_repeats(dataset, threshold=0.5) == [2] * 9 + [4] + [4] + [1] * 39


def test_void_pixels_show_no_class() -> None:
    assert image_repeats(Masks([255, 255], [0, 0]), threshold=1.0) == [1, 1]


def test_named_classes_are_drawn_as_often_as_asked() -> None:
    """DeepLabv3 doubles the images of its hard classes; the most demanding class of an image decides."""
    dataset = Masks([0], [0, 1], [1, 2], [2])
    assert image_repeats(dataset, classes={"cat": 2, "bus": 3}) == [1, 2, 3, 3]
    assert image_repeats(dataset) == [1, 1, 1, 1]


def test_both_rules_together_take_the_larger() -> None:
    dataset = Masks([0, 1], *[[0]] * 15, [0, 2])
    assert image_repeats(dataset, threshold=1.0, classes={"bus": 9})[0] == round(math.sqrt(17))
    assert image_repeats(dataset, threshold=1.0, classes={"bus": 9})[-1] == 9


def test_impossible_values_are_refused() -> None:
    with pytest.raises(AtrousError, match=r"data.repeat_threshold is a share of the images in \(0, 1\], got 2"):
        image_repeats(Masks([0]), threshold=2)
    with pytest.raises(AtrousError, match="'toy' has no class 'cats'; near are cat"):
        image_repeats(Masks([0]), classes={"cats": 2})
    with pytest.raises(AtrousError, match="'cat' is to be drawn 0 times; give 1 or more"):
        image_repeats(Masks([0]), classes={"cat": 0})


def test_every_pass_of_the_stream_draws_each_sample_as_often_as_asked() -> None:
    stream = TrainingStream(4, batch_size=7, chunk=6, seed=3, repeats=[1, 3, 1, 2])
    drawn = [draw.sample for batch in stream for draw in batch]
    assert len(drawn) == 42
    for start in range(0, 42, 7):
        assert Counter(drawn[start : start + 7]) == {0: 1, 1: 3, 2: 1, 3: 2}
    assert drawn[:7] != drawn[7:14]
