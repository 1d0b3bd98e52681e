"""Learning-rate factors at steps worked out by hand."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler, MultiStepLR, PolynomialLR, StepLR

from atrous.composition import build
from atrous.errors import AtrousError
from atrous.training.schedules import Cosine, Fixed, Inv, MultiStep, Poly, Schedule, Step

FILES = sorted(path.stem for path in (Path(__file__).parents[2] / "conf" / "scheduler").glob("*.yaml"))
ALL = [Fixed(), Step(step_size=3), MultiStep(milestones=[2, 7]), Poly(), Inv(gamma=0.1), Cosine(end_factor=0.1)]


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


def test_the_optimizer_gets_the_factor_of_the_steps_done() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.007)
    scheduler = LambdaLR(optimizer, Poly()(4))
    rates = []
    for _ in range(4):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([0.007 * f for f in (1, 0.75**0.9, 0.5**0.9, 0.25**0.9)])
    assert optimizer.param_groups[0]["lr"] == 0


@pytest.mark.parametrize(
    ("schedule", "steps", "expected"),
    [
        (Fixed(), [0, 50, 100, 200], [1, 1, 1, 1]),
        (Step(gamma=0.5, step_size=20), [0, 19, 20, 39, 40, 100], [1, 1, 0.5, 0.5, 0.25, 0.03125]),
        (MultiStep(gamma=0.1, milestones=[20, 30]), [0, 19, 20, 29, 30, 100], [1, 1, 0.1, 0.1, 0.01, 0.01]),
        (MultiStep(milestones=[]), [0, 100], [1, 1]),
        (Inv(gamma=0.03, power=0.5), [0, 1, 100], [1, 1 / math.sqrt(1.03), 0.5]),
        (Inv(), [0, 10_000], [1, 2**-0.75]),
        (Cosine(), [0, 25, 50, 75, 100, 120], [1, 0.5 + math.sqrt(0.125), 0.5, 0.5 - math.sqrt(0.125), 0, 0]),
        (Cosine(end_factor=0.04), [0, 50, 100], [1, 0.52, 0.04]),
        (Poly(power=2.0, end_factor=0.2), [0, 50, 100, 101], [1, 0.4, 0.2, 0.2]),
    ],
)
def test_factors_by_hand(schedule: Schedule, steps: list[int], expected: list[float]) -> None:
    factor = schedule(100)
    assert [factor(step) for step in steps] == pytest.approx(expected, abs=1e-12)


def test_papers_step_policy() -> None:
    """DeepLabv1: 1e-3, a tenth of it every 2000 of 6000 iterations."""
    factor = Step()(6000)
    assert [1e-3 * factor(step) for step in (0, 1999, 2000, 4000, 5999)] == pytest.approx(
        [1e-3, 1e-3, 1e-4, 1e-5, 1e-5]
    )


@pytest.mark.parametrize(
    ("schedule", "peer"),
    [
        (Step(gamma=0.3, step_size=4), lambda optimizer: StepLR(optimizer, 4, gamma=0.3)),
        (MultiStep(gamma=0.3, milestones=[3, 5]), lambda optimizer: MultiStepLR(optimizer, [3, 5], gamma=0.3)),
        (Poly(power=0.9), lambda optimizer: PolynomialLR(optimizer, 12, power=0.9)),
        (Cosine(end_factor=0.25), lambda optimizer: CosineAnnealingLR(optimizer, 12, eta_min=0.25)),
    ],
)
def test_pytorchs_schedulers_agree(schedule: Schedule, peer: Callable[[torch.optim.Optimizer], LRScheduler]) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, factor = peer(optimizer), schedule(12)
    for step in range(12):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(factor(step))
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("schedule", ALL, ids=lambda schedule: type(schedule).__name__)
def test_every_decay_starts_at_one_and_never_rises(schedule: Schedule) -> None:
    factors = [schedule(10)(step) for step in range(13)]
    assert factors[0] == 1
    assert all(before >= after >= 0 for before, after in itertools.pairwise(factors))


@pytest.mark.parametrize("schedule", ALL, ids=lambda schedule: type(schedule).__name__)
def test_every_decay_can_warm_up(schedule: Schedule) -> None:
    """A line from 0.2 at step 0 to 1 at step 5, times the decay."""
    options = {name: getattr(schedule, name) for name in schedule.__dataclass_fields__ if "warmup" not in name}
    plain, warm = schedule(10), type(schedule)(**options, warmup_steps=5, warmup_factor=0.2)(10)
    line = [0.2, 0.36, 0.52, 0.68, 0.84, 1.0, 1.0]
    assert [warm(step) for step in range(7)] == pytest.approx([f * plain(step) for step, f in enumerate(line)])


@pytest.mark.parametrize("name", FILES)
def test_every_file_of_the_configuration_is_a_schedule(name: str, composed: Callable[..., DictConfig]) -> None:
    schedule = build(composed("train", f"scheduler={name}", "scheduler.warmup_steps=10").scheduler)
    assert isinstance(schedule, Schedule)
    assert schedule(30_000)(0) == pytest.approx(0.1)


def test_milestones_on_the_command_line(composed: Callable[..., DictConfig]) -> None:
    overrides = ["scheduler=multi_step", "scheduler.milestones=[4, 8]", "scheduler.gamma=0.5"]
    factor = build(composed("train", *overrides).scheduler)(10)
    assert [factor(step) for step in (3, 4, 8)] == [1, 0.5, 0.25]


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (Fixed, {"warmup_steps": -1}, r"scheduler\.warmup_steps=-1 must not be negative"),
        (Cosine, {"warmup_factor": 2}, r"scheduler\.warmup_factor=2 must be from 0 to 1"),
        (Cosine, {"end_factor": -0.1}, r"scheduler\.end_factor=-0\.1 must be from 0 to 1"),
        (Step, {"gamma": 0}, r"scheduler\.gamma=0 must be greater than 0 and at most 1"),
        (Step, {"step_size": 0}, r"scheduler\.step_size=0 must be a positive number of steps"),
        (MultiStep, {"milestones": [5, 5]}, r"scheduler\.milestones=\[5, 5\] must be positive .* in growing order"),
        (MultiStep, {"milestones": [0]}, r"scheduler\.milestones=\[0\] "),
        (MultiStep, {"milestones": [1], "gamma": 10}, r"scheduler\.gamma=10 "),
        (Poly, {"power": 0}, r"scheduler\.power=0 must be positive"),
        (Poly, {"end_factor": 1.5}, r"scheduler\.end_factor=1\.5 "),
        (Inv, {"gamma": -0.1}, r"scheduler\.gamma=-0\.1 must be positive"),
        (Inv, {"power": math.nan}, r"scheduler\.power=nan must be positive"),
    ],
)
def test_impossible_values(kind: type, options: dict[str, Any], message: str) -> None:
    with pytest.raises(AtrousError, match=message):
        kind(**options)
