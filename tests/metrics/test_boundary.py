"""Scores of outlines against brute force: erosion by SciPy, distances between all pairs of points."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion
from scipy.spatial.distance import cdist
from torch import Tensor

from atrous.errors import AtrousError
from atrous.metrics import BoundaryF1, BoundaryIoU

CLASSES = 4


def batch(seed: int, *, void: bool = True) -> tuple[Tensor, Tensor]:
    """Masks of blocks with ignored outlines, and predictions whose outlines are some pixels off."""
    generator = np.random.default_rng(seed)
    mask = generator.integers(0, CLASSES - 1, (2, 3, 3)).repeat(15, axis=1).repeat(20, axis=2)
    prediction = np.roll(mask, (generator.integers(-3, 4), generator.integers(-3, 4)), axis=(1, 2))
    prediction[:, 5:9, 30:33] = CLASSES - 1  # of a class that no mask has
    if void:
        edge = np.zeros(mask.shape, dtype=bool)
        edge[:, 1:] |= mask[:, 1:] != mask[:, :-1]
        edge[:, :, 1:] |= mask[:, :, 1:] != mask[:, :, :-1]
        mask[edge] = 255
        mask[:, :6, :9] = 255
    return torch.from_numpy(prediction), torch.from_numpy(mask)


def outline(labels: NDArray[np.int64], label: int) -> NDArray[np.bool_]:
    inside = labels == label
    cross = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], dtype=bool)
    return inside & ~np.asarray(binary_erosion(inside, cross, border_value=1))


def f1_of(guess: NDArray[np.int64], truth: NDArray[np.int64], label: int, tolerance: float) -> float:
    predicted, true = np.argwhere(outline(guess, label)), np.argwhere(outline(truth, label))
    distances = cdist(predicted, true) if len(predicted) and len(true) else np.full((len(predicted), len(true)), np.inf)
    right = (distances <= tolerance).any(axis=1)
    excused = np.array([truth[tuple(point)] == 255 for point in predicted], dtype=bool) & ~right
    if not len(true) and not (~excused).any():
        return np.nan
    if not right.any():
        return 0.0
    precision, recall = right.sum() / (~excused).sum(), (distances <= tolerance).any(axis=0).mean()
    return float(2 * precision * recall / (precision + recall))


@pytest.mark.parametrize("tolerance", [0.0075, 0.03, 0.06])
@pytest.mark.parametrize("void", [False, True])
def test_f1_of_outlines(tolerance: float, void: bool) -> None:
    metric = BoundaryF1(CLASSES, tolerance=tolerance)
    table = []
    for seed in range(3):
        prediction, mask = batch(seed, void=void)
        metric.update(prediction, mask)
        for guess, truth in zip(prediction.numpy(), mask.numpy(), strict=True):
            pixels = tolerance * np.hypot(*truth.shape)
            table.append([f1_of(guess, truth, label, pixels) for label in range(CLASSES)])
    found = metric.compute()
    np.testing.assert_allclose(found.classes, np.nanmean(table, axis=0), atol=1e-9)
    assert found.mean == pytest.approx(np.nanmean(np.nanmean(table, axis=1)), abs=1e-9)
    assert 0 < found.mean < 1
    assert found.classes[-1] == 0  # predicted where it is not


@pytest.mark.parametrize("ratio", [0.001, 0.02, 0.06])
@pytest.mark.parametrize("void", [False, True])
def test_iou_along_outlines(ratio: float, void: bool) -> None:
    metric = BoundaryIoU(CLASSES, ratio=ratio)
    intersection, union = np.zeros(CLASSES), np.zeros(CLASSES)
    for seed in range(3):
        prediction, mask = batch(seed, void=void)
        metric.update(prediction, mask)
        for guess, truth in zip(prediction.numpy(), mask.numpy(), strict=True):
            times = max(1, round(ratio * np.hypot(*truth.shape)))
            guess = np.where(truth == 255, 255, guess)
            for label in range(CLASSES):
                rims = [
                    inside & ~binary_erosion(inside, np.ones((3, 3)), iterations=times, border_value=0)
                    for inside in (truth == label, guess == label)
                ]
                intersection[label] += (rims[0] & rims[1]).sum()
                union[label] += (rims[0] | rims[1]).sum()
    found = metric.compute()
    np.testing.assert_allclose(found.classes, intersection / union)
    assert found.mean == pytest.approx(np.mean(intersection / union))
    assert metric.union.dtype == torch.int64


@pytest.mark.parametrize("kind", [BoundaryF1, BoundaryIoU])
def test_a_perfect_prediction_and_nothing_at_all(kind: Any) -> None:
    _, mask = batch(0, void=False)
    metric = kind(CLASSES)
    metric.update(mask, mask)
    assert metric.compute().mean == 1
    assert metric.compute().classes[:3] == (1, 1, 1)
    assert np.isnan(metric.compute().classes[3])
    metric.reset()
    assert np.isnan(metric.compute().mean)


@pytest.mark.parametrize("kind", [BoundaryF1, BoundaryIoU])
def test_counts_add_up_over_processes(kind: Any) -> None:
    together, shares = kind(CLASSES), [kind(CLASSES), kind(CLASSES)]
    for seed in range(3):
        prediction, mask = batch(seed)
        together.update(prediction, mask)
        shares[seed % 2].update(prediction, mask)
    for name in together._defaults:
        assert getattr(together, name).dtype == torch.int64
        assert torch.equal(getattr(together, name), sum(getattr(share, name) for share in shares))


@pytest.mark.parametrize("kind", [BoundaryF1, BoundaryIoU])
def test_what_is_no_label_map_is_refused(kind: Any) -> None:
    metric = kind(CLASSES)
    labels = torch.zeros(1, 4, 4, dtype=torch.int64)
    for prediction, target, message in [
        (labels[:, :3], labels, "prediction has shape"),
        (labels.float(), labels, "class ids are integers"),
        (labels + 4, labels, r"prediction contains class ids \[4\]"),
        (labels, labels - 1, r"target contains class ids \[-1\]"),
    ]:
        with pytest.raises(AtrousError, match=message):
            metric.update(prediction, target)
    metric.update(labels + 9, torch.full_like(labels, 255))  # nothing of it counts


@pytest.mark.parametrize(("kind", "name"), [(BoundaryF1, "tolerance"), (BoundaryIoU, "ratio")])
def test_impossible_settings_are_refused(kind: Any, name: str) -> None:
    for value in (0, 1.5):
        with pytest.raises(AtrousError, match=name):
            kind(CLASSES, **{name: value})


def test_the_ignored_id_may_be_that_of_a_class() -> None:
    """As where 0 is the background, which is neither predicted nor scored."""
    prediction, mask = (each.clone() for each in batch(5))
    prediction[prediction == 0] = 1
    mask[mask == 0] = 255
    other, usual = BoundaryF1(CLASSES, ignore_index=0), BoundaryF1(CLASSES)
    other.update(prediction, mask.where(mask != 255, 0))
    usual.update(prediction, mask)
    found, wanted = other.compute(), usual.compute()
    assert np.isnan(found.classes[0])
    assert found.classes[1:] == wanted.classes[1:]
    assert found.mean == wanted.mean > 0
