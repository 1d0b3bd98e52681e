"""Distances to borders against brute force over all pairs of pixels."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from atrous.metrics.borders import Distance, borders, distance_to, distance_to_other_labels


def maps() -> list[NDArray[np.int64]]:
    """Label maps with thin and thick parts, sides of one pixel, and one label alone."""
    generator = np.random.default_rng(0)
    shapes = [(9, 13), (1, 8), (7, 1), (12, 6)]
    fine = [generator.integers(0, 3, shape) for shape in shapes]
    coarse = generator.integers(0, 3, (4, 5)).repeat(4, axis=0).repeat(3, axis=1)
    return [*fine, coarse, np.zeros((5, 6), dtype=np.int64)]


def apart(shape: tuple[int, ...], distance: str) -> NDArray[np.float64]:
    """Distance between any two pixels."""
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).reshape(-1, 2)
    steps = np.abs(places[:, None] - places[None]).astype(float)
    return steps.max(axis=-1) if distance == "chebyshev" else np.sqrt((steps**2).sum(axis=-1))


@pytest.mark.parametrize("distance", ["chebyshev", "euclidean"])
@pytest.mark.parametrize("labels", maps())
def test_distance_to_a_set(labels: NDArray[np.int64], distance: Distance) -> None:
    inside = labels == 2
    found = distance_to(inside, distance)
    if not inside.any():
        assert np.isinf(found).all()
        return
    wanted = apart(labels.shape, distance)[:, inside.reshape(-1)].min(axis=1).reshape(labels.shape)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.parametrize("labels", maps())
@pytest.mark.parametrize("ignore", [None, 0])
@pytest.mark.parametrize("diagonal", [True, False])
def test_border_pixels(labels: NDArray[np.int64], ignore: int | None, diagonal: bool) -> None:
    near = apart(labels.shape, "chebyshev" if diagonal else "euclidean") <= 1
    flat = labels.reshape(-1)
    differs = flat[:, None] != flat[None]
    if ignore is not None:
        differs &= (flat[:, None] != ignore) & (flat[None] != ignore)
    found = borders(labels, ignore_index=ignore, diagonal=diagonal)
    assert (found == (near & differs).any(axis=1).reshape(labels.shape)).all()


@pytest.mark.parametrize("labels", maps())
def test_distance_to_other_labels_and_to_the_outside(labels: NDArray[np.int64]) -> None:
    framed = np.pad(labels, 1, constant_values=9).reshape(-1)
    shape = (labels.shape[0] + 2, labels.shape[1] + 2)
    distances = np.where(framed[:, None] != framed[None], apart(shape, "chebyshev"), np.inf).min(axis=1)
    assert (distance_to_other_labels(labels) == distances.reshape(shape)[1:-1, 1:-1]).all()
