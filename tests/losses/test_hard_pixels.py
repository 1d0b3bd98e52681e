"""Hard pixels against sorting in numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from atrous.errors import AtrousError
from atrous.losses import OHEM, CrossEntropy, HardPixels

Example = Callable[..., tuple[Tensor, Tensor]]
WEIGHTS = [0.25, 1.0, 4.0, 9.0]


def probabilities(logits: Tensor, target: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Of the true class, for the pixels that are not ignored; and their labels."""
    scores, labels = logits.detach().numpy(), target.numpy()
    soft = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    image, row, column = np.nonzero(labels != 255)
    label = labels[image, row, column]
    return soft[image, label, row, column], label


@pytest.mark.parametrize("fraction", [0.001, 0.1, 0.25, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_largest_losses(fraction: float, weights: list[float] | None, example: Example) -> None:
    logits, target = example()
    probability, label = probabilities(logits, target)
    losses = np.sort(-np.log(probability) * np.array(weights or [1.0] * 4)[label])[::-1]
    expected = losses[: max(1, int(fraction * len(losses)))].mean()
    loss = HardPixels(fraction=fraction, class_weights=weights)
    assert loss(logits, target).item() == pytest.approx(expected)


def test_fraction_shrinks_on_a_line(example: Example) -> None:
    """From all pixels over 1 − 0.75 t / 10 to a quarter of them."""
    logits, target = example()
    losses = np.sort(-np.log(probabilities(logits, target)[0]))[::-1]
    loss = HardPixels(fraction=0.25, shrink_steps=10)
    torch.testing.assert_close(loss(logits, target), CrossEntropy()(logits, target))
    for step, fraction in ((0, 1.0), (4, 0.7), (10, 0.25), (1000, 0.25), (2, 0.85)):
        loss.at_step(step)
        assert loss(logits, target).item() == pytest.approx(losses[: int(fraction * len(losses))].mean())


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("min_kept", [1, 7, 40])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_improbable_pixels_but_enough(
    threshold: float, min_kept: int, weights: list[float] | None, example: Example
) -> None:
    logits, target = example()
    probability, label = probabilities(logits, target)
    order = np.argsort(probability)
    count = max(int((probability < threshold).sum()), min_kept)
    losses = -np.log(probability) * np.array(weights or [1.0] * 4)[label]
    loss = OHEM(threshold=threshold, min_kept=min_kept, class_weights=weights)
    assert loss(logits, target).item() == pytest.approx(losses[order[:count]].mean())


def test_all_pixels_where_there_are_fewer_than_needed(example: Example) -> None:
    logits, target = example()
    torch.testing.assert_close(OHEM(threshold=0.1)(logits, target), CrossEntropy()(logits, target))


def test_easy_pixels_get_no_gradient(example: Example) -> None:
    logits, target = example()
    probability = logits.softmax(1).gather(1, target.long().where(target != 255, 0).unsqueeze(1)).squeeze(1)
    OHEM(threshold=0.3, min_kept=1)(logits, target).backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad.abs().sum(1) > 0, (probability < 0.3) & (target != 255))


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (HardPixels, {"fraction": 0.0}, r"loss\.fraction=0\.0 must be greater than 0 and at most 1"),
        (HardPixels, {"fraction": 25}, r"loss\.fraction=25 "),
        (HardPixels, {"shrink_steps": -1}, r"loss\.shrink_steps=-1 must not be negative"),
        (OHEM, {"threshold": 70}, r"loss\.threshold=70 is no probability"),
        (OHEM, {"min_kept": 0}, r"loss\.min_kept=0 must be a positive number"),
    ],
)
def test_impossible_values(kind: type, options: dict[str, Any], message: str) -> None:
    with pytest.raises(AtrousError, match=message):
        kind(**options)
