"""Scores without form, against a slow and obvious computation."""

from __future__ import annotations

from collections import Counter, defaultdict
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from atrous.data.baselines import score_baselines
from atrous.data.dataset import RawSample, SegmentationDataset
from atrous.data.label_space import LabelSpace
from atrous.errors import AtrousError

SPACE = LabelSpace(name="tiny", classes=("a", "b", "c"), palette=((0, 0, 0), (9, 0, 0), (0, 9, 0)))
BACK_OFF = 32


class Fixed(SegmentationDataset):
    """Given images and masks."""

    def __init__(self, images: NDArray[np.uint8], masks: NDArray[np.uint8], space: LabelSpace = SPACE) -> None:
        self.label_space, self.split = space, "train"
        self.names = [str(number) for number in range(len(images))]
        self.images, self.masks = images, masks
        self.visited: list[int] = []

    def __getitem__(self, index: int) -> RawSample:
        self.visited.append(index)
        return RawSample(self.images[index], self.masks[index], self.names[index])


def random_dataset(seed: int, count: int = 3, side: int = 9) -> Fixed:
    """Noise in which color and class have something to do with each other."""
    rng = np.random.default_rng(seed)
    masks = rng.choice(np.array([0, 0, 0, 1, 1, 2, 255], np.uint8), (count, side, side))
    images = rng.integers(0, 256, (count, side, side, 3), np.uint8)
    images[..., 0] = np.where((masks == 1) & (rng.random(masks.shape) < 0.6), images[..., 0] // 4, images[..., 0])
    return Fixed(images, masks)


def pixels(dataset: Fixed) -> list[tuple[tuple[int, int, int], int]]:
    """(Color, class) of each pixel that counts."""
    colors = dataset.images.reshape(-1, 3).tolist()
    return [((r, g, b), c) for (r, g, b), c in zip(colors, dataset.masks.ravel().tolist(), strict=True) if c != 255]


def mean_iou(pairs: list[tuple[int, int]]) -> float:
    """Mean over the classes that occur, from (truth, prediction) pairs."""
    ious = []
    for label in range(3):
        both = sum(t == label and p == label for t, p in pairs)
        either = sum(t == label or p == label for t, p in pairs)
        if either:
            ious.append(both / either)
    return sum(ious) / len(ious)


class SlowPosterior:
    """P(class | color) by the definition: a count at each level, leaning on the level that is twice as coarse."""

    def __init__(self, training: list[tuple[tuple[int, int, int], int]], levels: int) -> None:
        self.levels = levels
        self.counts: dict[tuple[int, tuple[int, ...]], Counter[int]] = defaultdict(Counter)
        self.prior = Counter(label for _, label in training)
        self.total = len(training)
        for color, label in training:
            steps = 2
            while steps <= levels:
                self.counts[steps, self.bin(color, steps)][label] += 1
                steps *= 2

    @staticmethod
    def bin(color: tuple[int, int, int], steps: int) -> tuple[int, ...]:
        return tuple(value * steps // 256 for value in color)

    def __call__(self, color: tuple[int, int, int], label: int) -> Fraction:
        probability = Fraction(self.prior[label], self.total)
        # The coarsest level is the whole cube, smoothed by itself: the prior again.
        steps = 2
        while steps <= self.levels:
            counts = self.counts[steps, self.bin(color, steps)]
            probability = (counts[label] + BACK_OFF * probability) / (counts.total() + BACK_OFF)
            steps *= 2
        return probability


@pytest.mark.parametrize("levels", [2, 8, 64])
@pytest.mark.parametrize("seed", range(3))
def test_both_baselines_equal_the_definition(seed: int, levels: int) -> None:
    train, evaluation = random_dataset(seed), random_dataset(seed + 100)
    scores = score_baselines(train, evaluation, levels=levels)
    seen, met = pixels(train), pixels(evaluation)

    constant = max(range(3), key=lambda label: mean_iou([(truth, label) for _, truth in seen]))
    assert scores["constant"].miou == pytest.approx(mean_iou([(truth, constant) for _, truth in met]))

    posterior = SlowPosterior(seen, levels)

    def likely(color: tuple[int, int, int], weighted: bool) -> int:
        return max(range(3), key=lambda label: posterior(color, label) / (1 if weighted else posterior.prior[label]))

    weighted = max(
        (True, False), key=lambda choice: mean_iou([(truth, likely(color, choice)) for color, truth in seen])
    )
    expected = mean_iou([(truth, likely(color, weighted)) for color, truth in met])
    assert scores["color"].miou == pytest.approx(expected)


def test_color_is_perfect_where_color_is_everything() -> None:
    masks = np.random.default_rng(0).integers(0, 3, (4, 40, 40), dtype=np.uint8)
    images = np.array([(20, 20, 20), (220, 20, 20), (20, 20, 220)], np.uint8)[masks]
    dataset = Fixed(images, masks)
    scores = score_baselines(dataset, dataset)
    assert scores["color"].miou == 1.0
    assert scores["constant"].pixel_accuracy == pytest.approx((masks == masks.ravel()[0]).mean(), abs=0.02)


def test_ignored_pixels_do_not_count() -> None:
    dataset = random_dataset(1)
    changed = random_dataset(1)
    changed.images[changed.masks == 255] = 77
    assert score_baselines(dataset, dataset) == score_baselines(changed, changed)


def test_constant_is_chosen_on_train_not_on_the_scored_split() -> None:
    images = np.zeros((1, 4, 4, 3), np.uint8)
    mostly_b, all_a = np.ones((1, 4, 4), np.uint8), np.zeros((1, 4, 4), np.uint8)
    mostly_b[0, 0, 0] = 0
    assert score_baselines(Fixed(images, mostly_b), Fixed(images, all_a))["constant"].pixel_accuracy == 0.0


def test_a_class_that_training_never_showed_is_not_predicted() -> None:
    dataset = random_dataset(2)
    dataset.masks[dataset.masks == 2] = 0
    scores = score_baselines(dataset, dataset)
    assert np.isnan(scores["color"].iou[2])


def test_samples_limit_the_training_images_and_are_spread() -> None:
    train = random_dataset(0, count=12)
    evaluation = random_dataset(1, count=5)
    score_baselines(train, evaluation, samples=4)
    assert train.visited == [0, 3, 6, 9]
    assert evaluation.visited == [0, 1, 2, 3, 4]


def test_errors_name_the_value() -> None:
    dataset = random_dataset(0)
    other = Fixed(
        dataset.images, dataset.masks, LabelSpace(name="other", classes=("a", "b", "c"), palette=SPACE.palette)
    )
    empty = Fixed(dataset.images, np.full_like(dataset.masks, 255))
    with pytest.raises(AtrousError, match=r"'tiny'.*'other'"):
        score_baselines(dataset, other)
    with pytest.raises(AtrousError, match="no labeled pixel"):
        score_baselines(empty, dataset)
    with pytest.raises(AtrousError, match="12 levels"):
        score_baselines(dataset, dataset, levels=12)
    with pytest.raises(AtrousError, match="0 images"):
        score_baselines(dataset, dataset, samples=0)
