"""Coarse to fine: a cheap score keeps some points of a grid for a dear one, and finer grids follow around the best."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple


class Point(NamedTuple):
    """The bilateral kernel of a dense CRF: w₁, σ_α and σ_β."""

    weight: float
    sigma_xy: float
    sigma_rgb: float

    def __str__(self) -> str:
        """As ``4/67/3``."""
        return "/".join(f"{value:g}" for value in self)


Axes = tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]
"""The values of each of a point's three numbers, ascending."""


def grid(axes: Axes) -> list[Point]:
    """All points; those that share a lattice follow each other."""
    weights, *sigmas = axes
    return [Point(weight, *pair) for pair in itertools.product(*sigmas) for weight in weights]


def around(best: Point, axes: Axes, *, finer: int) -> list[Point]:
    """The point and those half a step from it along every axis, a quarter at the second time and so on.

    Args:
        best: The middle.
        axes: Of the first grid, whose smallest step along each axis counts. One of a single value stays.
        finer: How often steps have been halved, 1 at the first time.
    """
    values = []
    for middle, axis in zip(best, axes, strict=True):
        steps = [later - earlier for earlier, later in itertools.pairwise(axis)]
        step = min(steps, default=0.0) / 2**finer
        values.append(tuple(dict.fromkeys(value for value in (middle - step, middle, middle + step) if value > 0)))
    weights, places, colors = values
    return grid((weights, places, colors))


def survivors(points: Sequence[Point], scores: Sequence[float], *, share: float) -> list[Point]:
    """The best points, at least one, in the order in which they came."""
    count = max(1, math.ceil(share * len(points)))
    ranked = sorted(range(len(points)), key=lambda place: -scores[place])[:count]
    return [points[place] for place in sorted(ranked)]


def rounds(
    axes: Axes,
    *,
    refinements: int,
    share: float,
    quick: Callable[[Sequence[Point]], Sequence[float]],
    full: Callable[[Sequence[Point]], Sequence[float]],
) -> Iterator[tuple[Point, float]]:
    """Search, and give the best point with its full score after the grid and after every refinement.

    Args:
        axes: Of the first grid.
        refinements: How many finer grids follow.
        share: Share of a grid's points that get a full score.
        quick: Scores of points, cheap.
        full: Scores of points that are compared with each other in the end.
    """
    best: Point | None = None
    top = -math.inf
    for finer in range(refinements + 1):
        points = grid(axes) if best is None else around(best, axes, finer=finer)
        kept = survivors(points, quick(points), share=share)
        for point, score in zip(kept, full(kept), strict=True):
            if score > top:
                best, top = point, score
        assert best is not None
        yield best, top
