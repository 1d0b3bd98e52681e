"""Spread and paired intervals against textbook numbers and scipy's own test."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from atrous.metrics.paired import interval, spread


def test_spread_of_some_numbers() -> None:
    assert spread([2, 4, 4, 4, 5, 5, 7, 9]) == pytest.approx((5, math.sqrt(32 / 7), 8))


def test_one_run_has_no_deviation_and_an_unbounded_interval() -> None:
    mean, deviation, count = spread([3.0])
    assert (mean, count) == (3, 1)
    assert math.isnan(deviation)
    assert interval([3.0]) == (-math.inf, math.inf)


@pytest.mark.parametrize("differences", [[1.0, 2.0, 3.0], [0.4, -0.1], [5.0, 5.1, 4.9, 5.3, 5.2]])
def test_interval_is_that_of_a_paired_t_test(differences: list[float]) -> None:
    other = [0.0] * len(differences)
    theirs = stats.ttest_rel(differences, other).confidence_interval(0.95)
    assert interval(differences) == pytest.approx((theirs.low, theirs.high))
