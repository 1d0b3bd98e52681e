"""Dice loss by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from atrous.errors import AtrousError
from atrous.losses import Dice


def four_pixels() -> tuple[Tensor, Tensor]:
    """Three classes; the third does not occur, the last pixel is ignored."""
    probability = torch.tensor([[0.2, 0.5, 0.7, 0.3], [0.8, 0.4, 0.1, 0.3], [0.0, 0.1, 0.2, 0.4]]).double()
    return probability.log().view(1, 3, 2, 2), torch.tensor([[[1, 1], [0, 255]]])


@pytest.mark.parametrize(
    ("smooth", "classes", "overlaps"),
    [
        (0.0, "present", [1.4 / 2.4, 2.4 / 3.3]),
        (1.0, "present", [2.4 / 3.4, 3.4 / 4.3]),
        (0.0, "all", [1.4 / 2.4, 2.4 / 3.3, 0.0]),
        (1.0, "all", [2.4 / 3.4, 3.4 / 4.3, 1 / 1.3]),
    ],
)
def test_four_pixels(smooth: float, classes: str, overlaps: list[float]) -> None:
    """Class 0: Σ p·g = 0.7, Σ p = 1.4, Σ g = 1; class 1: 1.2, 1.3, 2; class 2: 0, 0.3, 0."""
    loss = Dice(smooth=smooth, classes=classes)
    assert loss(*four_pixels()).item() == pytest.approx(1 - sum(overlaps) / len(overlaps))


def test_hard_predictions_cost_one_minus_the_overlap_measure() -> None:
    """2 |A ∩ B| / (|A| + |B|): 2/3 for class 0, 4/5 for class 1."""
    target = torch.tensor([[[0, 1, 1, 1]]])
    prediction = torch.tensor([[[0, 0, 1, 1]]])
    logits = 1000.0 * torch.nn.functional.one_hot(prediction, 2).movedim(-1, 1)
    assert Dice(smooth=0.0)(logits, target).item() == pytest.approx(1 - (2 / 3 + 4 / 5) / 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"smooth": -1.0}, r"loss\.smooth=-1\.0 must not be negative"),
        ({"classes": "none"}, r"loss\.classes='none' is unknown; choose present or all"),
    ],
)
def test_impossible_values(options: dict[str, object], message: str) -> None:
    with pytest.raises(AtrousError, match=message):
        Dice(**options)
