"""Guided filter and PAMR against loops over pixels, and what all refiners promise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from atrous.crf import PAMR, DenseCRF, GuidedFilter, Neighbors, Refiner
from atrous.errors import AtrousError

Scene = Callable[..., tuple[Tensor, Tensor]]
REFINERS: list[Refiner] = [
    DenseCRF(),
    DenseCRF(kernels=[Neighbors()], normalization="none"),
    GuidedFilter(),
    GuidedFilter(subsampling=1, prune=None),
    PAMR(),
    PAMR(distances=[]),
]


@pytest.mark.parametrize("refiner", REFINERS, ids=lambda each: each.description)
def test_all_of_them_give_probabilities_image_by_image(scene: Scene, refiner: Refiner) -> None:
    logits, image = scene(33, 47, 5, batch=2)
    probabilities = logits.softmax(dim=1)
    refined = refiner.refine(probabilities, image)
    assert refined.dtype == torch.float32
    assert (refined >= 0).all()
    torch.testing.assert_close(refined.sum(dim=1), torch.ones(2, 33, 47))
    for number in range(2):
        alone = refiner.refine(probabilities[number, None], image[number, None])
        torch.testing.assert_close(refined[number, None], alone, atol=1e-5, rtol=0)
    with pytest.raises(AtrousError, match="of one size"):
        refiner.refine(probabilities, image[..., :-1])
    with pytest.raises(AtrousError, match="needs colors of 0…255"):
        refiner.refine(probabilities, image / 256)


@pytest.mark.parametrize("radius", [1, 3, 20])
def test_the_guided_filter_is_a_mean_of_linear_fits(scene: Scene, radius: int) -> None:
    """Each window's fit by ridge regression on its own pixels, with NumPy."""
    logits, image = scene(9, 12, 3)
    beliefs = logits.softmax(dim=1)[0].double().numpy()
    color = image[0].double().numpy() / 255
    total, count = np.zeros_like(beliefs), np.zeros((9, 12))
    for y in range(9):
        for x in range(12):
            window = np.s_[:, max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1]
            own, target = color[window].reshape(3, -1), beliefs[window].reshape(3, -1)
            size = own.shape[1]
            centered = own - own.mean(axis=1, keepdims=True)
            spread = centered @ centered.T / size + 1e-2 * np.eye(3)
            slope = np.linalg.solve(spread, centered @ target.T / size)  # 3×classes
            offset = target.mean(axis=1) - slope.T @ own.mean(axis=1)
            fit = np.einsum("ic,iyx->cyx", slope, color[window]) + offset[:, None, None]
            total[window] += fit
            count[window[1:]] += 1
    wanted = np.clip(total / count, 0, None)
    wanted /= wanted.sum(axis=0)
    guided_filter = GuidedFilter(radius=radius, epsilon=1e-2, subsampling=1, prune=None)
    got = guided_filter.refine(torch.from_numpy(beliefs)[None].float(), image)[0]
    np.testing.assert_allclose(got, wanted, atol=1e-4)


def test_pamr_is_a_mean_over_neighbors(scene: Scene) -> None:
    logits, image = scene(7, 8, 3)
    beliefs = logits.softmax(dim=1)[0].double().numpy()
    color = image[0].double().numpy()
    distances = (1, 3)
    for _ in range(2):
        after = np.zeros_like(beliefs)
        for y in range(7):
            for x in range(8):
                places, squares = [], []
                for distance in distances:
                    for down in (-1, 0, 1):
                        for across in (-1, 0, 1):
                            place = np.clip(y + down * distance, 0, 6), np.clip(x + across * distance, 0, 7)
                            squares.append(color[:, place[0], place[1]])
                            if (down, across) != (0, 0):
                                places.append(place)
                scale = 1e-8 + 0.1 * np.std(squares, axis=0, ddof=1)
                score = [-(np.abs(color[:, y, x] - color[:, a, b]) / scale).mean() for a, b in places]
                weights = np.exp(score - np.max(score))
                weights /= weights.sum()
                after[:, y, x] = sum(w * beliefs[:, a, b] for w, (a, b) in zip(weights, places, strict=True))
        beliefs = after
    got = PAMR(iterations=2, distances=distances, prune=None).refine(logits.softmax(dim=1), image)[0]
    np.testing.assert_allclose(got, beliefs, atol=1e-4)


def test_fits_on_a_smaller_image_are_nearly_the_same(scene: Scene) -> None:
    logits, image = scene(96, 130, 4)
    beliefs = logits.softmax(dim=1)
    exact = GuidedFilter(subsampling=1).refine(beliefs, image)
    fast = GuidedFilter(subsampling=4).refine(beliefs, image)
    change = (exact - beliefs).abs().mean()
    assert 0 < (fast - exact).abs().mean() < 0.25 * change


@pytest.mark.parametrize("make", [GuidedFilter, PAMR])
def test_classes_that_cannot_win_are_passed_over(scene: Scene, make: Callable[..., Refiner]) -> None:
    logits, image = scene(40, 50, 6, batch=2)
    logits[0, 4:] -= 50  # in the first image alone
    logits[1, 0] -= 50
    beliefs = (logits.softmax(dim=1) + 1e-3) / (1 + 6e-3)
    pruned, exact = (make(prune=least).refine(beliefs, image) for least in (0.01, None))
    assert (pruned.argmax(1) == exact.argmax(1)).all()
    assert 0 < (pruned - exact).abs().max() < 0.01
    unlikely = pruned[0, 4:] / beliefs[0, 4:]  # which stay in proportion
    torch.testing.assert_close(unlikely[0], unlikely[1])
    alone = make(prune=0.01).refine(beliefs[:1], image[:1])
    torch.testing.assert_close(pruned[:1], alone)


@pytest.mark.parametrize("make", [GuidedFilter, PAMR])
def test_an_image_without_a_likely_class_stays_as_it_is(scene: Scene, make: Callable[..., Refiner]) -> None:
    logits, image = scene(12, 15, 6)
    beliefs = (0.01 * logits).softmax(dim=1)
    torch.testing.assert_close(make(prune=0.5).refine(beliefs, image), beliefs)


def test_edges_of_the_image_become_those_of_the_classes() -> None:
    """Scores that are a few pixels off."""
    image = torch.zeros(1, 3, 40, 60, dtype=torch.uint8)
    image[..., 30:] = 200
    image = image + torch.randint(0, 8, image.shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    place = torch.arange(60).float()
    second = torch.sigmoid((place - 25.5) / 3).expand(1, 1, 40, 60)  # too early by four
    beliefs = torch.cat([1 - second, second], dim=1)
    truth = (place >= 30).expand(40, 60)
    before = (beliefs.argmax(1)[0].bool() != truth).float().mean()
    assert before > 0.05
    for refiner in (DenseCRF(), GuidedFilter(radius=10), PAMR()):
        wrong = (refiner.refine(beliefs, image).argmax(1)[0].bool() != truth).float().mean()
        assert wrong < 0.5 * before, refiner.description


@pytest.mark.parametrize(
    "make",
    [
        lambda: GuidedFilter(radius=0),
        lambda: GuidedFilter(epsilon=0),
        lambda: GuidedFilter(radius=3, subsampling=4),
        lambda: GuidedFilter(prune=1),
        lambda: PAMR(iterations=-1),
        lambda: PAMR(prune=0),
        lambda: PAMR(distances=[1, 0]),
    ],
)
def test_impossible_values_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(AtrousError, match="must be"):
        make()
