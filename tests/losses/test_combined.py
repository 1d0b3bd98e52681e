"""Weighted sums of losses, and the files of ``conf/loss``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor

from atrous.composition import build
from atrous.errors import AtrousError
from atrous.losses import Combined, CrossEntropy, Dice, HardPixels, Loss, LovaszSoftmax

Example = Callable[..., tuple[Tensor, Tensor]]
Compose = Callable[..., DictConfig]
FILES = sorted(path.stem for path in (Path(__file__).parents[2] / "conf" / "loss").glob("*.yaml"))


def test_weighted_sum(example: Example) -> None:
    logits, target = example()
    first, second, third = (kind()(logits, target).item() for kind in (CrossEntropy, LovaszSoftmax, Dice))
    terms: dict[str, Loss] = {"first": CrossEntropy(), "second": LovaszSoftmax(), "third": Dice()}
    assert Combined(terms)(logits, target).item() == pytest.approx(first + second + third)
    by_name = Combined(terms, weights={"third": 0.25, "first": 2.0})
    assert by_name(logits, target).item() == pytest.approx(2 * first + second + 0.25 * third)
    in_order = Combined(list(terms.values()), weights=[2.0, 0.0, 1.0])
    assert in_order(logits, target).item() == pytest.approx(2 * first + third)


def test_terms_are_told_the_step() -> None:
    inner = HardPixels(fraction=0.5, shrink_steps=100)
    Combined({"outer": Combined([CrossEntropy(), inner])}).at_step(50)
    assert inner.fraction == 0.75


def test_class_weights_move_with_the_sum() -> None:
    inner = CrossEntropy(class_weights=[1.0, 2.0])
    Combined([inner]).to("meta")
    assert inner.class_weights is not None
    assert inner.class_weights.is_meta


@pytest.mark.parametrize(
    ("terms", "weights", "message"),
    [
        ({}, None, r"loss\.terms is empty"),
        ({"a": "dice"}, None, r"loss\.terms\.a is no loss"),
        ({"a": Dice(), "b": Dice()}, {"c": 1.0}, r"loss\.weights names 'c', but the terms are a, b"),
        ({"a": Dice()}, {"a": -1.0}, r"loss\.weights\.a=-1\.0 must be a number that is not negative"),
        ([Dice()], [1.0, 2.0], r"loss\.weights has 2 values for 1 terms"),
    ],
)
def test_impossible_values(terms: Any, weights: Any, message: str) -> None:
    with pytest.raises(AtrousError, match=message):
        Combined(terms, weights=weights)


@pytest.mark.parametrize("name", FILES)
def test_every_file_of_the_configuration_is_a_loss(name: str, composed: Compose, example: Example) -> None:
    logits, target = example()
    loss = build(composed("train", f"loss={name}").loss)
    assert isinstance(loss, Loss)
    loss.at_step(3)
    assert loss(logits, target) > 0


def test_cross_entropy_and_lovasz_on_the_command_line(composed: Compose, example: Example) -> None:
    logits, target = example()
    weights = [1.0, 2.0, 3.0, 4.0]
    loss = build(
        composed(
            "train",
            "loss=combined",
            "+loss@loss.terms.dice=dice",
            "loss.terms.dice.smooth=0",
            f"loss.terms.cross_entropy.class_weights={weights}",
            "loss.weights.lovasz=0.5",
        ).loss
    )
    parts = [CrossEntropy(class_weights=weights), LovaszSoftmax(), Dice(smooth=0.0)]
    expected = [part(logits, target) for part in parts]
    torch.testing.assert_close(loss(logits, target), expected[0] + 0.5 * expected[1] + expected[2])
