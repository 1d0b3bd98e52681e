"""The space of paths and cells."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from atrous.models.nas import Operation, Trellis
from atrous.models.nas.trellis import cell_count, edges_of, row_of


def test_the_papers_space() -> None:
    """2.9e4 paths and 5.6e14 cells in the paper (§3.1 and §3.2)."""
    assert Trellis(12).path_count() == 28_657
    assert cell_count(5) == 720**2 * 64**5


@pytest.mark.parametrize("layers", [1, 2, 3, 5, 7])
def test_paths_beside_all_sequences(layers: int) -> None:
    def fits(path: tuple[int, ...]) -> bool:
        return path[0] == 4 and all(
            after in (before / 2, before, 2 * before) for before, after in itertools.pairwise(path)
        )

    wanted = [path for path in itertools.product((4, 8, 16, 32), repeat=layers) if fits(path)]
    assert list(Trellis(layers).paths()) == wanted
    assert Trellis(layers).path_count() == len(wanted)


def test_cells_beside_all_blocks() -> None:
    choices = [len(list(itertools.product(Operation, range(2 + block)))) ** 2 for block in range(3)]
    assert cell_count(3) == choices[0] * choices[1] * choices[2]


def test_random_paths_are_equally_likely() -> None:
    generator = np.random.default_rng(0)
    drawn = Counter(Trellis(4).random_path(generator) for _ in range(13 * 500))
    assert sorted(drawn) == sorted(Trellis(4).paths())
    assert all(abs(count - 500) < 5 * 500**0.5 for count in drawn.values())


def test_neighbors_know_each_other() -> None:
    trellis = Trellis(6)
    for layer in range(1, 6):
        for stride in trellis.strides(layer):
            for before in trellis.before(layer, stride):
                assert stride in trellis.after(layer - 1, before)
    assert trellis.before(0, 4) == (4,)
    assert [trellis.strides(layer) for layer in range(4)] == [(4,), (4, 8), (4, 8, 16), (4, 8, 16, 32)]


def test_rows_of_edges() -> None:
    for place, edge in enumerate(edges_of(5)):
        assert row_of(*edge) == place
    assert len(edges_of(5)) == 20
