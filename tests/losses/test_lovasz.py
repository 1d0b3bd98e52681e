"""Lovász-softmax against the definition of the extension as an integral of the Jaccard loss over thresholds."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from atrous.errors import AtrousError
from atrous.losses import LovaszSoftmax

Example = Callable[..., tuple[Tensor, Tensor]]


def jaccard_loss(wrong: set[int], truth: set[int]) -> float:
    """1 − IoU of a class when a set of pixels is wrong (Berman et al. §2)."""
    return len(wrong) / len(truth | wrong) if wrong else 0.0


def extension(errors: np.ndarray, truth: set[int]) -> float:
    """∫ Δ({i: errorᵢ > t}) dt from 0 to 1, a sum because the set changes at the errors only; no pixel is sorted."""
    levels = np.unique(np.concatenate([[0.0], errors]))
    return sum(
        float(above - level) * jaccard_loss(set(np.flatnonzero(errors > level)), truth)
        for level, above in itertools.pairwise(levels)
    )


def by_definition(logits: Tensor, target: Tensor, classes: str) -> float:
    probability, labels = logits.detach().softmax(1).numpy(), target.numpy()
    values = []
    for index in range(probability.shape[1]):
        mine = labels[labels != 255] == index
        if mine.any() or classes == "all":
            of_class = probability[:, index][labels != 255]
            values.append(extension(np.where(mine, 1 - of_class, of_class), set(np.flatnonzero(mine))))
    return float(np.mean(values))


@pytest.mark.parametrize("classes", ["present", "all"])
@pytest.mark.parametrize("absent", [False, True])
def test_integral_over_thresholds(classes: str, absent: bool, example: Example) -> None:
    logits, target = example()
    if absent:
        target[target == 2] = 1
    loss = LovaszSoftmax(classes=classes)
    assert loss(logits, target).item() == pytest.approx(by_definition(logits, target, classes))


@pytest.mark.parametrize("classes", ["present", "all"])
def test_mean_over_images(classes: str, example: Example) -> None:
    logits, target = example()
    target[0][target[0] == 3] = 0
    loss = LovaszSoftmax(classes=classes, per_image=True)
    expected = np.mean([by_definition(logits[i : i + 1], target[i : i + 1], classes) for i in range(2)])
    assert loss(logits, target).item() == pytest.approx(expected)


def test_hard_predictions_cost_one_minus_the_mean_iou(example: Example) -> None:
    logits, target = example()
    target[target == 2] = 1
    prediction = logits.argmax(1)
    counted = target != 255
    ious = []
    for index in (0, 1, 3):
        predicted, true = (prediction == index) & counted, target == index
        ious.append((predicted & true).sum().item() / (predicted | true).sum().item())
    hard = 1000.0 * torch.nn.functional.one_hot(prediction, 4).movedim(-1, 1)
    assert LovaszSoftmax()(hard, target).item() == pytest.approx(1 - np.mean(ious))


def test_small_slopes_survive_float32() -> None:
    """Pixels late in the order of a large region add 1 / union each; as differences of IoUs they would be noise."""
    pixels = 200_000
    target = torch.ones(1, 1, pixels, dtype=torch.uint8)
    logits = torch.zeros(1, 2, 1, pixels)
    logits[0, 1, 0] = torch.linspace(-1, 1, pixels)
    logits.requires_grad_()
    LovaszSoftmax()(logits, target).backward()
    assert logits.grad is not None
    probability = logits.detach().double().softmax(1)[0, 1, 0]
    expected = -probability * (1 - probability) / pixels
    torch.testing.assert_close(logits.grad[0, 1, 0].double(), expected, rtol=1e-4, atol=0.0)


def test_unknown_classes() -> None:
    with pytest.raises(AtrousError, match=r"loss\.classes='some' is unknown; choose present or all"):
        LovaszSoftmax(classes="some")
