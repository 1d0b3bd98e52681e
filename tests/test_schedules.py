"""Learning-rate factors at steps worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR

from atrous.schedules import Poly


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 1.0), (1, 0.99997), (10_000, 0.694259), (15_000, 0.535887), (27_000, 0.125893), (30_000, 0.0)],
)
def test_poly_over_the_papers_thirty_thousand_steps(step: int, expected: float) -> None:
    """(1 − t/T)^0.9: ln 2/3 = −0.405465, so (2/3)^0.9 = e^−0.364919; 0.5^0.9 = 2^−0.9; 0.1^0.9 = 10^−0.9."""
    assert Poly()(30_000)(step) == pytest.approx(expected, rel=1e-5, abs=1e-12)


def test_power_one_is_a_straight_line() -> None:
    factor = Poly(power=1.0)(200)
    assert [factor(step) for step in (0, 1, 50, 100, 199, 200)] == pytest.approx([1, 0.995, 0.75, 0.5, 0.005, 0])


def test_it_stays_at_zero_behind_the_end() -> None:
    assert Poly()(10)(11) == 0.0


def test_warm_up_multiplies_the_decay() -> None:
    """Factor 0.1 at step 0, 0.55 half-way, 1 from the end of the warm-up on, on a line from 1 to 0 over 100 steps."""
    factor = Poly(power=1.0, warmup_steps=20, warmup_factor=0.1)(100)
    assert [factor(step) for step in (0, 10, 20, 50)] == pytest.approx([0.1, 0.9 * 0.55, 0.8, 0.5])


def test_the_optimiser_gets_the_factor_of_the_steps_done() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.007)
    scheduler = LambdaLR(optimizer, Poly()(4))
    rates = []
    for _ in range(4):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([0.007 * f for f in (1, 0.75**0.9, 0.5**0.9, 0.25**0.9)])
    assert optimizer.param_groups[0]["lr"] == 0
