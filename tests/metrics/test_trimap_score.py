"""Many widths in one pass are the same as one width at a time, and as brute force."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from atrous.errors import AtrousError
from atrous.metrics import TrimapScore, confusion_matrix, scores_from_confusion
from atrous.metrics.trimap import within_trimap

WIDTHS = [1, 2, 3, 5, 9, 40]


def batch(seed: int, *, void: bool = True) -> tuple[Tensor, Tensor]:
    """Predictions and masks of blocks, with ignored outlines and spots."""
    generator = np.random.default_rng(seed)
    mask = generator.integers(0, 4, (3, 6, 5)).repeat(5, axis=1).repeat(7, axis=2)
    if void:
        mask[:, 10] = 255
        mask[:, :, 20][generator.random((3, 30)) < 0.3] = 255
        mask[2] = mask[2] * (mask[2] != 255)  # an image without any
    prediction = np.where(generator.random(mask.shape) < 0.6, mask % 255 % 4, generator.integers(0, 4, mask.shape))
    return torch.from_numpy(prediction), torch.from_numpy(mask)


def test_every_width_equals_the_dilated_band() -> None:
    score = TrimapScore(4, WIDTHS)
    batches = [batch(seed) for seed in range(3)]
    for prediction, mask in batches:
        score.update(prediction, mask)
    found = score.compute()
    assert list(found) == WIDTHS
    for width in WIDTHS:
        counts = [confusion_matrix(prediction, within_trimap(mask, width), 4) for prediction, mask in batches]
        wanted = torch.stack(counts).sum(dim=0)
        assert wanted.sum() > 0
        assert found[width] == scores_from_confusion(wanted)
    assert len({scores.miou for scores in found.values()}) > 3


@pytest.mark.parametrize("borders", ["void", "classes"])
@pytest.mark.parametrize("distance", ["chebyshev", "euclidean"])
def test_bands_by_brute_force(borders: Any, distance: Any) -> None:
    prediction, mask = batch(7, void=borders == "void")
    score = TrimapScore(4, [2, 4], borders=borders, distance=distance)
    score.update(prediction, mask)
    counts = {2: np.zeros((4, 4), dtype=np.int64), 4: np.zeros((4, 4), dtype=np.int64)}
    for guess, truth in zip(prediction.numpy(), mask.numpy(), strict=True):
        height, width = truth.shape
        for y, x in np.ndindex(height, width):
            if truth[y, x] == 255:
                continue
            rows, columns = slice(max(0, y - 5), y + 6), slice(max(0, x - 5), x + 6)
            near = truth[rows, columns]
            down, across = np.meshgrid(np.arange(height)[rows] - y, np.arange(width)[columns] - x, indexing="ij")
            steps = np.maximum(abs(down), abs(across)) if distance == "chebyshev" else np.hypot(down, across)
            if borders == "void":
                border = near == 255
            else:  # a pixel that touches another class; the band of width 1 is made of those
                border = np.zeros(near.shape, dtype=bool)
                for index, (row, column) in zip(
                    np.ndindex(near.shape), zip(down.ravel() + y, across.ravel() + x, strict=True), strict=True
                ):
                    around = truth[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
                    border[index] = (around != truth[row, column]).any()
                steps = steps + 1
            nearest = steps[border].min() if border.any() else np.inf
            for limit in counts:
                if nearest <= limit:
                    counts[limit][truth[y, x], guess[y, x]] += 1
    for limit, scores in score.compute().items():
        assert scores == scores_from_confusion(torch.from_numpy(counts[limit]))


def test_counts_add_up_over_processes_and_start_again() -> None:
    together, first, second = (TrimapScore(4, WIDTHS) for _ in range(3))
    for seed, share in enumerate([first, second, second]):
        prediction, mask = batch(seed)
        together.update(prediction, mask)
        share.update(prediction, mask)
    assert first.rings.dtype == torch.int64
    assert torch.equal(together.rings, first.rings + second.rings)
    together.reset()
    assert not together.rings.any()


def test_a_band_without_labeled_pixels_has_no_score() -> None:
    score = TrimapScore(4, [1, 3])
    score.update(torch.zeros(1, 9, 9, dtype=torch.int64), torch.zeros(1, 9, 9, dtype=torch.int64))
    assert all(np.isnan(scores.miou) for scores in score.compute().values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": []}, "must be whole numbers of pixels that ascend"),
        ({"widths": [0, 1]}, "must be whole numbers of pixels that ascend"),
        ({"widths": [3, 2]}, "must be whole numbers of pixels that ascend"),
        ({"widths": [1], "borders": "edges"}, "borders of 'edges' are unknown: choose void or classes"),
        ({"widths": [1], "distance": "city"}, "the distance 'city' is unknown: choose chebyshev or euclidean"),
    ],
)
def test_impossible_settings_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(AtrousError, match=message):
        TrimapScore(4, **options)
