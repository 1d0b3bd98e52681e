"""Which of the settings that differ between runs go with their scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from scipy.stats import spearmanr

_FEWEST = 3
"""Runs below which nothing can be said."""


def differing(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """The settings that are not the same in all runs, in the order in which they first come."""
    keys = list(dict.fromkeys(key for each in settings for key in each))
    return [key for key in keys if len({each.get(key) for each in settings}) > 1]


def importance(settings: Sequence[Mapping[str, str]], scores: Sequence[float]) -> dict[str, float]:
    """How much of the differences between scores goes with each setting alone, the most first.

    It is the share of the scores' variance that lies between the values of a setting (η²); of numbers that are all
    different, the square of Spearman's rank correlation. Settings that always change together cannot be told apart, and
    with few runs chance alone has a share.

    Args:
        settings: Of each run, its values by name.
        scores: Of each run; one that is nan is left out.

    Returns:
        Shares from 0 to 1 by setting; nothing of fewer than three runs, or if all scores are the same.
    """
    known = [(each, score) for each, score in zip(settings, scores, strict=True) if math.isfinite(score)]
    values = [score for _, score in known]
    if len(known) < _FEWEST or min(values) == max(values):
        return {}
    mean = sum(values) / len(values)
    whole = sum((value - mean) ** 2 for value in values)
    shares = {key: _share([each.get(key) for each, _ in known], values, mean, whole) for key in differing(settings)}
    return dict(sorted(((key, share) for key, share in shares.items() if share is not None), key=lambda item: -item[1]))


def _share(chosen: Sequence[str | None], values: Sequence[float], mean: float, whole: float) -> float | None:
    groups: dict[str | None, list[float]] = {}
    for name, value in zip(chosen, values, strict=True):
        groups.setdefault(name, []).append(value)
    if len(groups) < len(values):
        between = sum(len(group) * (sum(group) / len(group) - mean) ** 2 for group in groups.values())
        return between / whole
    numbers = [_number(name) for name in chosen]
    if not all(map(math.isfinite, numbers)):
        return None  # names that occur once each: nothing is shared
    return float(spearmanr(numbers, values).statistic) ** 2


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan
