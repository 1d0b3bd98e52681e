"""The lattice against a dictionary of vertices that is filled one pixel after the other."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from atrous.crf.lattice import Lattice, build_lattice
from atrous.errors import AtrousError

DIMENSIONS = (1, 2, 3, 5, 6)


def draw(dimensions: int, seed: int, *, batch: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(100 * dimensions + seed)
    spread = torch.rand(dimensions, generator=generator) * 4
    return torch.randn(batch, 60, dimensions, generator=generator) * spread


@pytest.mark.parametrize("dimensions", DIMENSIONS)
@pytest.mark.parametrize("seed", range(4))
def test_vertices_and_shares_are_those_of_the_slow_way(slow: SimpleNamespace, dimensions: int, seed: int) -> None:
    features = draw(dimensions, seed)
    lattice = build_lattice(features)
    keys_of: dict[int, set[tuple[int, ...]]] = defaultdict(set)
    for pixel, feature in enumerate(features[0].numpy()):
        keys, shares = slow.simplex(feature)
        np.testing.assert_allclose(lattice.shares[pixel], shares, atol=2e-6)
        assert min(shares) > -1e-5
        assert sum(shares) == pytest.approx(1)
        for vertex, key in zip(lattice.vertices[pixel].tolist(), keys, strict=True):
            keys_of[vertex].add(key)
    assert all(len(keys) == 1 for keys in keys_of.values())
    number_of = {key: vertex for vertex, (key,) in keys_of.items()}
    assert len(number_of) == len(keys_of) == lattice.size
    for axis, around in enumerate(lattice.around):
        step = np.ones(dimensions + 1, dtype=int)
        step[axis] = -dimensions
        for key, vertex in number_of.items():
            near = [number_of.get(tuple((np.array(key) + sign * step).tolist()), lattice.size) for sign in (-1, 1)]
            assert around[vertex].tolist() == [vertex, *near]
        assert around[lattice.size].tolist() == [lattice.size] * 3


@pytest.mark.parametrize("dimensions", DIMENSIONS)
def test_pixels_are_listed_by_vertex(dimensions: int) -> None:
    lattice = build_lattice(draw(dimensions, 0))
    assert sorted(lattice.order.tolist()) == list(range(lattice.vertices.numel()))
    for vertex in range(lattice.size):
        places = lattice.order[lattice.starts[vertex] : lattice.starts[vertex + 1]].long()
        assert len(places) > 0
        assert (lattice.vertices.flatten()[places] == vertex).all()


def neighborhoods(lattice: Lattice, pixels: slice) -> list[list[list[bool]]]:
    """Which pixels share which corners, whatever the vertices are called."""
    vertices = lattice.vertices[pixels]
    return (vertices[:, None, :, None] == vertices[None, :, None, :]).flatten(2).tolist()


def test_images_of_a_batch_lie_in_lattices_of_their_own() -> None:
    features = draw(5, 1, batch=3)
    features[2] = features[0]
    together = build_lattice(features)
    alone = [build_lattice(each[None]) for each in features]
    assert together.size == sum(each.size for each in alone)
    for number, each in enumerate(alone):
        pixels = slice(60 * number, 60 * (number + 1))
        assert torch.equal(together.shares[pixels], each.shares)
        assert neighborhoods(together, pixels) == neighborhoods(each, slice(None))


def test_no_vertex_is_next_to_one_of_another_image() -> None:
    """Keys of images follow each other, so more than a step must lie between those of two."""
    lattice = build_lattice(torch.linspace(0, 9, 60).expand(2, 60)[..., None])
    for pixels in (slice(0, 60), slice(60, 120)):
        own = lattice.vertices[pixels].unique()
        near = lattice.around[:, own.long(), 1:].unique()
        assert set(near.tolist()) <= {*own.tolist(), lattice.size}


def test_features_that_are_too_far_apart_are_refused() -> None:
    with pytest.raises(AtrousError, match="standard deviations of a CRF kernel are too small"):
        build_lattice(1e4 * draw(5, 0))
