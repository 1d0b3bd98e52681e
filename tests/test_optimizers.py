"""The files of ``conf/optimizer``: one step of each against its formula."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from omegaconf import DictConfig

from atrous.composition import build

DECAY, RATE = 0.1, 0.01
GRADIENTS = (1.0, 3.0)


def heavy_ball(value: float, nesterov: bool) -> float:
    """v ← 0.9 v + g, θ ← θ − lr·v, or θ − lr (g + 0.9 v) after Nesterov; decay is part of the gradient."""
    velocity = 0.0
    for each in GRADIENTS:
        gradient = each + DECAY * value
        velocity = 0.9 * velocity + gradient
        value -= RATE * (gradient + 0.9 * velocity if nesterov else velocity)
    return value


def adam(value: float, decoupled: bool) -> float:
    """θ ← θ − lr·m̂ / √v̂ (Kingma & Ba algorithm 1); decay in the gradient, or before the step by lr·decay."""
    mean = square = 0.0
    for step, each in enumerate(GRADIENTS, start=1):
        gradient = each if decoupled else each + DECAY * value
        if decoupled:
            value -= RATE * DECAY * value
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        value -= RATE * (mean / (1 - 0.9**step)) / ((square / (1 - 0.999**step)) ** 0.5 + 1e-8)
    return value


EXPECTED = {
    "sgd": heavy_ball(1.0, False),
    "nesterov": heavy_ball(1.0, True),
    "adam": adam(1.0, False),
    "adamw": adam(1.0, True),
}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_two_steps(name: str, composed: Callable[..., DictConfig]) -> None:
    parameter = torch.nn.Parameter(torch.ones((), dtype=torch.float64))
    make = build(composed("train", f"optimizer={name}").optimizer)
    optimizer = make([{"params": [parameter], "lr": RATE, "weight_decay": DECAY}])
    for gradient in GRADIENTS:
        parameter.grad = torch.full_like(parameter, gradient)
        optimizer.step()
    assert parameter.item() == pytest.approx(EXPECTED[name], rel=1e-9)
    assert len(set(EXPECTED.values())) == len(EXPECTED)
