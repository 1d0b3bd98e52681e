"""The trellis of strides that a network takes a path through (Auto-DeepLab §3.2)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from atrous.models.nas.genotype import STRIDES, Operation, sources_of


@dataclass(frozen=True)
class Trellis:
    """Cells in layers, each at one of four strides; a path goes from layer to layer by a factor of 2 at most.

    Every path begins at stride 4, that of the stem. So a stride that needs several halvings is missing from the first
    layers, and 12 layers have 28,657 paths.

    Attributes:
        layers: Number of layers.
    """

    layers: int

    def strides(self, layer: int) -> tuple[int, ...]:
        """Strides of the cells of a layer, counted from 0; of the stem for all before."""
        return STRIDES[: min(len(STRIDES), max(0, layer) + 1)]

    def after(self, layer: int, stride: int) -> tuple[int, ...]:
        """Strides of the cells in the next layer that a cell gives to, fine to coarse."""
        return tuple(s for s in self.strides(layer + 1) if s in neighbors(stride))

    def before(self, layer: int, stride: int) -> tuple[int, ...]:
        """Strides of the cells in the layer before, or of the stem, that a cell takes from, fine to coarse."""
        if layer == 0:
            return STRIDES[:1]
        return tuple(s for s in self.strides(layer - 1) if s in neighbors(stride))

    def paths(self) -> Iterator[tuple[int, ...]]:
        """All paths, those with finer strides first."""

        def continued(path: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
            if len(path) == self.layers:
                yield path
                return
            for stride in self.after(len(path) - 1, path[-1]):
                yield from continued((*path, stride))

        yield from continued(STRIDES[:1])

    def path_count(self) -> int:
        """How many paths there are, without walking them."""
        return sum(self._ways()[0].values())

    def random_path(self, generator: np.random.Generator) -> tuple[int, ...]:
        """A path, each with the same probability."""
        ways = self._ways()  # to the end
        path = [STRIDES[0]]
        for layer in range(self.layers - 1):
            choices = self.after(layer, path[-1])
            weights = np.array([ways[layer + 1][stride] for stride in choices], dtype=np.float64)
            path.append(int(generator.choice(choices, p=weights / weights.sum())))
        return tuple(path)

    def _ways(self) -> list[dict[int, int]]:
        """For every layer and stride, how many ways lead from there to the last layer."""
        ways = [dict.fromkeys(self.strides(self.layers - 1), 1)]
        for layer in reversed(range(self.layers - 1)):
            ways.append({s: sum(ways[-1][after] for after in self.after(layer, s)) for s in self.strides(layer)})
        return ways[::-1]


def neighbors(stride: int) -> tuple[int, int, int]:
    """The strides half as large, as large and twice as large."""
    return stride // 2, stride, 2 * stride


def cell_count(blocks: int) -> int:
    """How many cells of so many blocks there are: two inputs and two operations each (Auto-DeepLab §3.1)."""
    return math.prod(len(sources_of(block)) ** 2 * len(Operation) ** 2 for block in range(blocks))


def edges_of(blocks: int) -> tuple[tuple[int, int], ...]:
    """Block and source of every edge in a cell, block by block; the rows of alpha."""
    return tuple(itertools.chain.from_iterable([(b, source) for source in sources_of(b)] for b in range(blocks)))


def row_of(block: int, source: int) -> int:
    """Place of an edge among ``edges_of``: the blocks before have 2, 3, … edges."""
    return block * (block + 3) // 2 + source
