"""Coarse to fine against trying everything."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from atrous.commands.search.halving import Point, around, grid, rounds, survivors

AXES = ((3.0, 4.0, 5.0, 6.0), tuple(map(float, range(30, 101, 10))), (3.0, 4.0, 5.0, 6.0))


def test_the_grid_of_the_paper_has_128_points_in_32_lattices() -> None:
    points = grid(AXES)
    assert len(points) == len(set(points)) == 128
    lattices = [point[1:] for point in points]
    assert sum(one != other for one, other in itertools.pairwise(lattices)) == 31
    assert str(points[0]) == "3/30/3"


def test_finer_grids_halve_the_step_and_stay_above_zero() -> None:
    points = around(Point(4, 60, 3), AXES, finer=1)
    assert len(points) == 27
    assert {each.sigma_xy for each in points} == {55, 60, 65}
    assert {each.weight for each in points} == {3.5, 4, 4.5}
    assert {each.sigma_rgb for each in around(Point(4, 60, 3), AXES, finer=2)} == {2.75, 3, 3.25}
    assert {each.sigma_xy for each in around(Point(4, 5, 3), ((4.0,), (5.0, 25.0), (3.0,)), finer=1)} == {5, 15}
    assert around(Point(4, 60, 3), ((4.0,), (60.0,), (3.0,)), finer=1) == [Point(4, 60, 3)]


def test_the_best_survive_in_their_order() -> None:
    points = [Point(number, 1, 1) for number in range(1, 6)]
    scores = [0.1, 0.5, 0.3, 0.5, 0.2]
    assert survivors(points, scores, share=0.4) == [points[1], points[3]]
    assert survivors(points, scores, share=0.01) == [points[1]]
    assert survivors(points, scores, share=1) == points


@pytest.mark.parametrize("peak", [(4.4, 63, 4.6), (3, 100, 6), (6.2, 28, 2.8)])
def test_the_peak_of_a_smooth_hill_is_found_with_a_quarter_of_the_full_scores(peak: tuple[float, ...]) -> None:
    asked: list[Point] = []

    def height(point: Point) -> float:
        return -sum(((x - y) / scale) ** 2 for x, y, scale in zip(point, peak, (1, 10, 1), strict=True))

    def full(points: Sequence[Point]) -> list[float]:
        asked.extend(points)
        return [height(point) for point in points]

    found = list(
        rounds(
            AXES,
            refinements=2,
            share=0.25,
            quick=lambda points: [height(point) + 0.05 * (index % 3) for index, point in enumerate(points)],
            full=full,
        )
    )
    assert len(found) == 3
    assert [score for _, score in found] == sorted(score for _, score in found)
    assert found[0][1] == max(height(point) for point in grid(AXES))
    best = found[-1][0]
    assert all(abs(x - y) <= step for x, y, step in zip(best, peak, (0.3, 3, 0.3), strict=True))
    assert len(asked) == 32 + 7 + 7


def test_a_worse_refinement_changes_nothing() -> None:
    first = Point(4, 60, 4)
    found = list(
        rounds(
            AXES,
            refinements=1,
            share=0.1,
            quick=lambda points: [float(point == first) for point in points],
            full=lambda points: [float(point == first) for point in points],
        )
    )
    assert found == [(first, 1.0), (first, 1.0)]
