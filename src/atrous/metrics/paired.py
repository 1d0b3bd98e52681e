"""Comparison of two ways of training, seed by seed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

_CONFIDENCE = 0.95


class Spread(NamedTuple):
    """Mean and standard deviation of some runs.

    Attributes:
        mean: Their mean.
        deviation: Standard deviation of one run (n − 1 in the denominator); nan of a single one.
        runs: How many there are.
    """

    mean: float
    deviation: float
    runs: int


def spread(values: Sequence[float]) -> Spread:
    """Mean and standard deviation of at least one value."""
    deviation = statistics.stdev(values) if len(values) > 1 else math.nan
    return Spread(statistics.fmean(values), deviation, len(values))


def interval(differences: Sequence[float]) -> tuple[float, float]:
    """Where the mean of paired differences lies with a confidence of 95 %, by Student's t.

    Args:
        differences: One for each seed. Of fewer than two nothing is known, and the interval is unbounded.
    """
    mean, deviation, count = spread(differences)
    if count < 2:
        return -math.inf, math.inf
    reach = _student(count - 1) * deviation / math.sqrt(count)
    return mean - reach, mean + reach


def _student(freedom: int) -> float:
    """The two-sided quantile of Student's t."""
    from scipy.special import stdtrit  # scipy.stats takes seconds

    return float(stdtrit(freedom, (1 + _CONFIDENCE) / 2))
