"""Median-frequency balancing on masks that can be counted by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from atrous.data import LabelSpace, RawSample, SegmentationDataset
from atrous.data.class_weights import median_frequency_weights


class Masks(SegmentationDataset):
    """Given masks of two by five pixels."""

    def __init__(self, rows: Sequence[Sequence[int]], classes: int = 4) -> None:
        names = tuple("abcdefgh"[:classes])
        self.label_space = LabelSpace("toy", names, tuple((i, i, i) for i in range(classes)))
        self.split = "train"
        self.names = [str(i) for i in range(len(rows))]
        self._masks = [np.array(row, dtype=np.uint8).reshape(2, -1) for row in rows]
        self.read: list[int] = []

    def __getitem__(self, index: int) -> RawSample:
        self.read.append(index)
        mask = self._masks[index]
        return RawSample(np.zeros((*mask.shape, 3), dtype=np.uint8), mask, self.names[index])


def test_weights_by_hand() -> None:
    """Frequencies: class 0 11 of 20 (in both images), class 1 6 of 20, class 2 3 of 10 (in the second only)."""
    dataset = Masks([[0] * 7 + [1] * 3, [0] * 4 + [1] * 3 + [2] * 3], classes=3)
    assert median_frequency_weights(dataset) == pytest.approx([0.3 / 0.55, 1.0, 1.0])


def test_ignored_pixels_count_for_nothing() -> None:
    """Six pixels of class 0 and two of class 1 are left: 6/8 and 2/8, whose median is 1/2."""
    dataset = Masks([[0] * 6 + [1] * 2 + [255] * 2], classes=2)
    assert median_frequency_weights(dataset) == pytest.approx([0.5 / 0.75, 0.5 / 0.25])


def test_a_class_that_does_not_occur_has_weight_one_and_no_say_in_the_median() -> None:
    dataset = Masks([[0] * 8 + [2] * 2], classes=4)
    assert median_frequency_weights(dataset) == pytest.approx([0.5 / 0.8, 1.0, 0.5 / 0.2, 1.0])


def test_an_image_without_labels_changes_nothing() -> None:
    rows = [[0] * 6 + [1] * 4]
    assert median_frequency_weights(Masks([*rows, [255] * 10], 2)) == median_frequency_weights(Masks(rows, 2))


def test_a_limit_reads_evenly_spaced_samples() -> None:
    dataset = Masks([[0] * 5 + [1] * 5] * 100, classes=2)
    median_frequency_weights(dataset, limit=5)
    assert dataset.read == [0, 25, 50, 74, 99]
