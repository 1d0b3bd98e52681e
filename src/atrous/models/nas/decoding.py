"""From what a search has learned to a genotype (Auto-DeepLab §3.4)."""

from __future__ import annotations

import heapq

import numpy as np
import torch
from torch import Tensor

from atrous.models.nas.architecture import Architecture
from atrous.models.nas.genotype import STRIDES, Block, Branch, Genotype, Operation, sources_of
from atrous.models.nas.trellis import Trellis, neighbors

_REAL = [column for column, kind in enumerate(Operation) if kind is not Operation.NONE]
_KINDS = tuple(Operation)


@torch.no_grad()
def decode(architecture: Architecture) -> Genotype:
    """The most probable path, and for every block the two strongest inputs with their strongest operations."""
    weights = architecture.operation_weights()
    return Genotype(
        strongest_paths(architecture.trellis, architecture.path_weights())[0],
        tuple(_strongest_block(weights, architecture, block) for block in range(architecture.blocks)),
    )


def strongest_paths(trellis: Trellis, weights: Tensor, *, count: int = 1) -> list[tuple[int, ...]]:
    """The paths with the largest products of their weights, strongest first (Viterbi's algorithm, with lists).

    Of equally strong ones, the first is the one that is finer in the first layer in which they differ.

    Args:
        trellis: The network's.
        weights: Of going on from a cell: layers but the last × strides × next stride (half, the same, twice).
        count: How many paths, at most.
    """
    logs = weights.double().clamp(min=torch.finfo(torch.float64).tiny).log().tolist()
    # by stride: the best ways from there to the last layer, as negative log products and strides
    ways: dict[int, list[tuple[float, tuple[int, ...]]]] = {
        stride: [(0.0, (stride,))] for stride in trellis.strides(trellis.layers - 1)
    }
    for layer in reversed(range(trellis.layers - 1)):
        ways = {
            stride: heapq.nsmallest(
                count,
                (
                    (cost - logs[layer][STRIDES.index(stride)][neighbors(stride).index(after)], (stride, *way))
                    for after in trellis.after(layer, stride)
                    for cost, way in ways[after]
                ),
            )
            for stride in trellis.strides(layer)
        }
    return [way for _, way in ways[STRIDES[0]]]


@torch.no_grad()
def draw(architecture: Architecture, generator: np.random.Generator) -> Genotype:
    """A genotype, drawn by what the search has learned: alpha and beta are probabilities.

    Of every block, two inputs are drawn by the strength of their edges, and an operation of each by its weight.
    """
    path_weights = architecture.path_weights().double().numpy(force=True)
    weights = architecture.operation_weights()[:, _REAL].double().numpy(force=True)
    strides = [STRIDES[0]]
    for step in path_weights:
        after = step[STRIDES.index(strides[-1])]
        strides.append(neighbors(strides[-1])[generator.choice(3, p=after / after.sum())])
    blocks: list[Block] = []
    for block in range(architecture.blocks):
        rows = weights[_rows(architecture, block)]
        strengths = rows.max(axis=1)
        pair = sorted(generator.choice(len(rows), size=2, replace=False, p=strengths / strengths.sum()).tolist())
        first, second = (
            Branch(_KINDS[_REAL[generator.choice(len(_REAL), p=rows[source] / rows[source].sum())]], source)
            for source in pair
        )
        blocks.append((first, second))
    return Genotype(tuple(strides), tuple(blocks))


def random_genotype(trellis: Trellis, blocks: int, generator: np.random.Generator) -> Genotype:
    """A genotype of those that can be decoded, each with the same probability."""
    kinds = [_KINDS[column] for column in _REAL]
    made: list[Block] = []
    for block in range(blocks):
        first, second = (
            Branch(kinds[generator.integers(len(kinds))], source)
            for source in sorted(generator.choice(len(sources_of(block)), size=2, replace=False).tolist())
        )
        made.append((first, second))
    return Genotype(trellis.random_path(generator), tuple(made))


def uniform_genotype(genotype: Genotype, operation: Operation) -> Genotype:
    """The same network with one operation everywhere."""
    blocks = [(Branch(operation, first.source), Branch(operation, second.source)) for first, second in genotype.blocks]
    return Genotype(genotype.strides, tuple(blocks))


def _strongest_block(weights: Tensor, architecture: Architecture, block: int) -> Block:
    """Of equally strong inputs or operations the first, in the order of sources and of ``Operation``."""
    rows = weights[_rows(architecture, block)][:, _REAL].tolist()
    strengths = [max(row) for row in rows]
    ranked = sorted(range(len(rows)), key=lambda source: -strengths[source])[:2]
    first, second = (Branch(_KINDS[_REAL[rows[source].index(strengths[source])]], source) for source in sorted(ranked))
    return first, second


def _rows(architecture: Architecture, block: int) -> list[int]:
    return [row for row, (of, _) in enumerate(architecture.edges) if of == block]
