"""Focal loss against a loop over pixels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from atrous.errors import AtrousError
from atrous.losses import CrossEntropy, Focal

Example = Callable[..., tuple[Tensor, Tensor]]


def by_loops(logits: Tensor, target: Tensor, gamma: float, factors: list[float]) -> float:
    """Mean over the pixels that are not ignored of −α (1 − p)^γ log p."""
    scores, labels = logits.detach().numpy(), target.numpy()
    values = []
    for image, row, column in zip(*np.nonzero(labels != 255), strict=True):
        label = labels[image, row, column]
        powers = np.exp(scores[image, :, row, column])
        probability = powers[label] / powers.sum()
        values.append(-factors[label] * (1 - probability) ** gamma * np.log(probability))
    return float(np.mean(values))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("factors", [None, [0.25, 1.0, 4.0, 9.0]])
def test_mean_over_the_pixels_that_are_not_ignored(gamma: float, factors: list[float] | None, example: Example) -> None:
    logits, target = example()
    expected = by_loops(logits, target, gamma, factors or [1.0] * 4)
    assert Focal(gamma=gamma, class_weights=factors)(logits, target).item() == pytest.approx(expected)


def test_no_focus_is_cross_entropy(example: Example) -> None:
    logits, target = example()
    weights = [0.25, 1.0, 4.0, 9.0]
    focal, plain = (
        kind(class_weights=weights, class_weight_power=0.5)
        for kind in (lambda **o: Focal(gamma=0.0, **o), CrossEntropy)
    )
    torch.testing.assert_close(focal(logits, target), plain(logits, target))


def test_a_pixel_at_nine_tenths_counts_a_hundred_times_less() -> None:
    logits = torch.tensor([0.9, 0.1]).log().view(1, 2, 1, 1)
    target = torch.zeros(1, 1, 1, dtype=torch.uint8)
    assert Focal()(logits, target).item() == pytest.approx(CrossEntropy()(logits, target).item() / 100, rel=1e-5)


def test_negative_focus() -> None:
    with pytest.raises(AtrousError, match=r"loss\.gamma=-1 must not be negative"):
        Focal(gamma=-1)
