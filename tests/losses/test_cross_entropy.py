"""Cross-entropy against loops over pixels."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from atrous.errors import AtrousError
from atrous.losses import CrossEntropy

CLASSES = 4


def example(ignored: float = 0.3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, CLASSES, 5, 7, generator=generator)
    target = torch.randint(0, CLASSES, (2, 5, 7), generator=generator)
    target[torch.rand(2, 5, 7, generator=generator) < ignored] = 255
    return logits.requires_grad_(), target.to(torch.uint8)


def by_loops(logits: Tensor, target: Tensor, factors: list[float]) -> float:
    """Mean over the pixels that count of factor × −log softmax."""
    total, count = 0.0, 0
    for image, labels in zip(logits.tolist(), target.tolist(), strict=True):
        for row, line in enumerate(labels):
            for column, label in enumerate(line):
                if label == 255:
                    continue
                scores = [image[c][row][column] for c in range(CLASSES)]
                total -= factors[label] * (scores[label] - math.log(sum(math.exp(s) for s in scores)))
                count += 1
    return total / count


def test_mean_over_the_pixels_that_are_not_ignored() -> None:
    logits, target = example()
    assert CrossEntropy()(logits, target).item() == pytest.approx(by_loops(logits, target, [1.0] * CLASSES), rel=1e-5)


@pytest.mark.parametrize("power", [1.0, 0.5, 0.0])
def test_class_weights_and_their_power(power: float) -> None:
    weights = [0.25, 1.0, 4.0, 9.0]
    logits, target = example()
    loss = CrossEntropy(class_weights=weights, class_weight_power=power)
    expected = by_loops(logits, target, [weight**power for weight in weights])
    assert loss(logits, target).item() == pytest.approx(expected, rel=1e-5)


def test_ignored_pixels_get_exactly_no_gradient_and_all_others_do() -> None:
    logits, target = example()
    CrossEntropy(class_weights=[1.0, 2.0, 3.0, 4.0])(logits, target).backward()
    assert logits.grad is not None
    moved = logits.grad.abs().sum(dim=1) > 0
    assert torch.equal(moved, target != 255)


def test_number_of_ignored_pixels_does_not_matter() -> None:
    logits, target = example()
    more_logits = torch.cat([logits, torch.randn(2, CLASSES, 3, 7)], dim=2)
    more_target = torch.cat([target, torch.full((2, 3, 7), 255, dtype=torch.uint8)], dim=1)
    torch.testing.assert_close(CrossEntropy()(logits, target), CrossEntropy()(more_logits, more_target))


def test_nothing_but_ignored_pixels_gives_zero() -> None:
    logits, target = example(ignored=1.1)
    loss = CrossEntropy()(logits, target)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert torch.count_nonzero(logits.grad) == 0


def test_another_ignore_index() -> None:
    logits, target = example()
    other = torch.where(target == 255, 9, target.long())
    torch.testing.assert_close(CrossEntropy(ignore_index=9)(logits, other), CrossEntropy()(logits, target))


def test_half_precision_logits_are_summed_in_float32() -> None:
    logits = torch.zeros(1, 2, 300, 300, dtype=torch.float16)
    loss = CrossEntropy()(logits, torch.zeros(1, 300, 300, dtype=torch.uint8))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log(2), rel=1e-5)


def test_wrong_number_of_class_weights() -> None:
    logits, target = example()
    with pytest.raises(AtrousError, match=r"loss\.class_weights has 3 values for 4 classes; give one per class"):
        CrossEntropy(class_weights=[1.0, 1.0, 1.0])(logits, target)


@pytest.mark.parametrize("factors", [None, [0.25, 1.0, 4.0, 9.0]])
def test_label_smoothing_spreads_a_part_over_all_classes(factors: list[float] | None) -> None:
    """Each pixel has −Σ w·q·log p with q = 0.8 of the label + 0.2 / 4 of every class; ignored pixels have nothing."""
    logits, target = example()
    loss = CrossEntropy(class_weights=factors, label_smoothing=0.2)
    parts = [by_loops(logits, torch.where(target == 255, 255, c), factors or [1.0] * CLASSES) for c in range(CLASSES)]
    expected = 0.8 * by_loops(logits, target, factors or [1.0] * CLASSES) + 0.2 * sum(parts) / CLASSES
    assert loss(logits, target).item() == pytest.approx(expected, rel=1e-5)


def test_label_smoothing_is_pytorchs_where_nothing_is_ignored() -> None:
    logits, target = example(ignored=0.0)
    expected = F.cross_entropy(logits, target.long(), label_smoothing=0.1)
    torch.testing.assert_close(CrossEntropy(label_smoothing=0.1)(logits, target), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_smoothing": 1.0}, r"loss\.label_smoothing=1\.0 must be at least 0 and less than 1"),
        ({"label_smoothing": -0.1}, r"loss\.label_smoothing=-0\.1 "),
        ({"class_weights": [1.0, -2.0]}, r"loss\.class_weights=\[1\.0, -2\.0\] must be at least 0 each"),
        ({"class_weights": [1.0, math.nan]}, r"loss\.class_weights=\[1\.0, nan\] "),
    ],
)
def test_impossible_values(options: dict[str, Any], message: str) -> None:
    with pytest.raises(AtrousError, match=message):
        CrossEntropy(**options)


def test_weights_are_not_saved_with_the_network() -> None:
    assert CrossEntropy(class_weights=[1.0, 2.0]).state_dict() == {}
