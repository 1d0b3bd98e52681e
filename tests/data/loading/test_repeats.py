"""How often images are drawn, against counting by hand, and what the stream makes of it."""

from __future__ import annotations

import math
from collections import Counter
from itertools import chain, islice
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from atrous.data import LabelSpace, RawSample, SegmentationDataset
from atrous.data.loading.repeats import image_repeats
from atrous.data.loading.sampling import TrainingStream
from atrous.data.statistics import count_classes
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


def repeats_of(dataset: Masks, **options: Any) -> list[float]:
    return image_repeats(count_classes(dataset).occurs, dataset.label_space, **options)


def test_rare_classes_are_drawn_by_the_root_of_their_rarity() -> None:
    """Of 50 images all show ground, ten a cat, two a bus."""
    cat, bus = math.sqrt(0.5 / 0.2), math.sqrt(0.5 / 0.04)
    assert (cat, bus) == pytest.approx((1.581, 3.536), abs=1e-3)
    dataset = Masks(*[[0, 1]] * 9, [0, 1, 2], [0, 2], *[[0, 255]] * 39)
    assert repeats_of(dataset, threshold=0.5) == pytest.approx([cat] * 9 + [bus] + [bus] + [1] * 39)


def test_classes_just_below_the_threshold_are_drawn_more_often_than_the_others() -> None:
    """Shares of 0.09 and 0.045 at a threshold of 0.1 ask for 1.05 and 1.49 draws; rounded, both would get one."""
    dataset = Masks(*[[0, 1]] * 18, *[[0, 2]] * 9, *[[0]] * 173)
    stream = TrainingStream(200, batch_size=100, chunk=10_000, seed=0, repeats=repeats_of(dataset, threshold=0.1))
    drawn = Counter("cat" if n < 18 else "bus" if n < 27 else "ground" for n, _ in chain(*islice(stream, 8000)))
    passes = drawn["ground"] / 173
    assert passes > 3500
    # standard deviations: √(0.054 · 0.946 / (18 · 3500)) = 0.0009 and √(0.49 · 0.51 / (9 · 3500)) = 0.0028
    assert drawn["cat"] / 18 / passes == pytest.approx(math.sqrt(0.1 / 0.09), abs=0.004)
    assert drawn["bus"] / 9 / passes == pytest.approx(math.sqrt(0.1 / 0.045), abs=0.012)


def test_void_pixels_show_no_class() -> None:
    """Ground is in one of two images; void, in the other, asks for nothing."""
    assert repeats_of(Masks([255, 255], [0, 0]), threshold=1.0) == pytest.approx([1, math.sqrt(2)])


def test_named_classes_are_drawn_as_often_as_asked() -> None:
    """DeepLabv3 doubles the images of its hard classes; the most demanding class of an image decides."""
    dataset = Masks([0], [0, 1], [1, 2], [2])
    assert repeats_of(dataset, classes={"cat": 2, "bus": 3}) == [1, 2, 3, 3]
    assert repeats_of(dataset) == [1, 1, 1, 1]


def test_both_rules_together_take_the_larger() -> None:
    dataset = Masks([0, 1], *[[0]] * 15, [0, 2])
    assert repeats_of(dataset, threshold=1.0, classes={"bus": 9})[0] == pytest.approx(math.sqrt(17))
    assert repeats_of(dataset, threshold=1.0, classes={"bus": 9})[-1] == 9


def test_impossible_values_are_refused() -> None:
    with pytest.raises(AtrousError, match=r"data.repeat_threshold is a share of the images in \(0, 1\], got 2"):
        repeats_of(Masks([0]), threshold=2)
    with pytest.raises(AtrousError, match="'toy' has no class 'cats'; similar: cat"):
        repeats_of(Masks([0]), classes={"cats": 2})
    with pytest.raises(AtrousError, match="'cat' is to be drawn 0 times; give 1 or more"):
        repeats_of(Masks([0]), classes={"cat": 0})


def test_every_pass_of_the_stream_draws_each_sample_as_often_as_asked() -> None:
    """Whole numbers: a shuffle of the repeated samples by the seed and the number of the pass, and nothing else."""
    stream = TrainingStream(4, batch_size=7, chunk=6, seed=3, repeats=[1, 3, 1, 2])
    drawn = [draw.sample for batch in stream for draw in batch]
    shuffles = [np.random.default_rng((3, number)).permutation([0, 1, 1, 1, 2, 3, 3]) for number in range(6)]
    assert drawn == np.concatenate(shuffles).tolist()


def test_a_fraction_is_one_draw_more_in_some_passes() -> None:
    """The first sample comes once a pass, so it counts the passes: 2.3 draws are 2 in 70 of 100 passes, 3 in 30."""
    repeats = [1.0, 1.5, 2.3, 1.05]
    stream = TrainingStream(4, batch_size=10, chunk=10_000, seed=1, repeats=repeats)
    drawn = Counter(draw.sample for batch in islice(stream, 2500) for draw in batch)
    passes = drawn[0]
    assert passes == pytest.approx(25_000 / sum(repeats), rel=0.02)
    assert [drawn[sample] / passes for sample in range(4)] == pytest.approx(repeats, abs=0.04)  # five deviations
