"""Shares of settings in scores, against analysis of variance and rank correlation by hand."""

from __future__ import annotations

import math

import pytest

from atrous.reports.importance import differing, importance


def test_only_what_differs_is_compared() -> None:
    settings = [{"a": "1", "b": "x"}, {"a": "1", "b": "y", "c": "2"}, {"a": "1", "b": "x"}]
    assert differing(settings) == ["b", "c"]


def test_a_setting_that_decides_everything_has_all_of_the_variance() -> None:
    settings = [{"loss": loss, "seed": seed} for loss in ("a", "b") for seed in ("0", "1")]
    shares = importance(settings, [0.5, 0.5, 0.7, 0.7])
    assert list(shares.items()) == [("loss", 1.0), ("seed", 0.0)]


def test_shares_are_those_of_an_analysis_of_variance() -> None:
    """Means 0.55 and 0.7 around 0.625; squares between 4 · 0.075², within 2 · 0.05² + 2 · 0.1²."""
    settings = [{"loss": loss, "seed": seed} for loss in ("a", "b") for seed in ("0", "1")]
    between, within = 4 * 0.075**2, 2 * 0.05**2 + 2 * 0.1**2
    assert importance(settings, [0.5, 0.6, 0.6, 0.8])["loss"] == pytest.approx(between / (between + within))


def test_numbers_that_are_all_different_count_by_their_ranks() -> None:
    """Ranks 1 2 3 4 against 1 2 4 3: ρ = 1 − 6 · 2 / (4 · 15)."""
    settings = [{"rate": rate} for rate in ("0.001", "0.01", "0.1", "10")]
    assert importance(settings, [0.1, 0.2, 0.4, 0.3])["rate"] == pytest.approx((1 - 12 / 60) ** 2)


def test_nothing_is_said_where_nothing_can_be() -> None:
    two = [{"a": "1"}, {"a": "2"}]
    assert importance(two, [0.1, 0.2]) == {}
    three = [{"a": "x"}, {"a": "y"}, {"a": "z"}]
    assert importance(three, [0.1, 0.2, 0.3]) == {}  # names, one run each
    assert importance([{"a": "1"}, {"a": "1"}, {"a": "2"}], [0.2, 0.2, 0.2]) == {}
    assert importance([*three, {"a": "x"}], [0.1, 0.2, 0.3, math.nan]) == {}
