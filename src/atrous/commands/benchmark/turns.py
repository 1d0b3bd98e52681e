"""Contestants that take turns: A B A B, so that a machine that slows down slows all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import torch


@dataclass(frozen=True)
class Timing:
    """Milliseconds of a contestant.

    Attributes:
        median: Of all rounds.
        low: Lower quartile.
        high: Upper quartile.
        rounds: Number of rounds.
    """

    median: float
    low: float
    high: float
    rounds: int

    def to_dict(self) -> dict[str, float]:
        """As plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        digits = 0 if self.median >= 100 else 1
        return f"{self.median:.{digits}f} ({self.low:.{digits}f}-{self.high:.{digits}f})"


def take_turns(
    contestants: Mapping[str, Callable[[], object]], *, rounds: int, seconds: float = float("inf")
) -> dict[str, Timing]:
    """Time contestants in turn, after one round that does not count.

    Args:
        contestants: What to do, by name. Work on a GPU is waited for.
        rounds: How often each has its turn.
        seconds: Rounds end early after this time, but not before the third.

    Returns:
        Wall-clock times by name.
    """
    times: dict[str, list[float]] = {name: [] for name in contestants}
    end = None
    for number in range(rounds + 1):
        for name, work in contestants.items():
            start = time.perf_counter()
            work()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number > 0:
                times[name].append(1000 * (time.perf_counter() - start))
        end = end or time.perf_counter() + seconds
        if number >= 3 and time.perf_counter() > end:
            break
    return {name: timing(measured) for name, measured in times.items()}


def timing(measured: list[float]) -> Timing:
    """Median and quartiles of milliseconds."""
    if len(measured) == 1:
        return Timing(measured[0], measured[0], measured[0], 1)
    low, median, high = statistics.quantiles(measured, n=4, method="inclusive")
    return Timing(median, low, high, len(measured))
