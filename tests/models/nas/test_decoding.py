"""From alpha and beta to a genotype."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor

from atrous.models.nas import Architecture, Genotype, Operation, Trellis
from atrous.models.nas.decoding import decode, draw, random_genotype, strongest_paths, uniform_genotype

STRIDES = (4, 8, 16, 32)


def architecture_of(layers: int, blocks: int, seed: int, *, scale: float = 1.0) -> Architecture:
    torch.manual_seed(seed)
    architecture = Architecture(Trellis(layers), blocks)
    architecture.alpha.copy_(scale * torch.randn(architecture.alpha.shape))
    architecture.beta.copy_(scale * torch.randn(architecture.beta.shape))
    return architecture


def product(weights: Tensor, path: tuple[int, ...]) -> float:
    """Of the weights on a path, looked up one by one."""
    steps = [(STRIDES.index(a), {0.5: 0, 1: 1, 2: 2}[b / a]) for a, b in itertools.pairwise(path)]
    return math.prod(float(weights[layer, row, column]) for layer, (row, column) in enumerate(steps))


@pytest.mark.parametrize("layers", [1, 2, 4, 6])
@pytest.mark.parametrize("seed", range(25))
def test_paths_beside_brute_force(layers: int, seed: int) -> None:
    architecture = architecture_of(layers, 1, seed, scale=3.0)
    weights = architecture.path_weights().double()
    ranked = sorted(Trellis(layers).paths(), key=lambda path: -product(weights, path))
    found = strongest_paths(Trellis(layers), weights, count=7)
    assert found == ranked[:7]
    assert decode(architecture).strides == ranked[0]


@pytest.mark.parametrize("seed", range(25))
def test_cells_beside_brute_force(seed: int) -> None:
    """Of all pairs of inputs and all operations but none, the one with the largest sums."""
    architecture = architecture_of(2, 4, seed)
    weights = {
        (block, source, kind): float(row[column])
        for (block, source), row in zip(architecture.edges, architecture.alpha.softmax(1), strict=True)
        for column, kind in enumerate(Operation)
        if kind is not Operation.NONE
    }
    for number, block in enumerate(decode(architecture).blocks):
        best = max(
            itertools.combinations([key for key in weights if key[0] == number], 2),
            key=lambda pair: (pair[0][1] != pair[1][1], sum(weights[key] for key in pair)),
        )
        assert {(branch.source, branch.operation) for branch in block} == {key[1:] for key in best}


def test_the_sums_of_weights() -> None:
    architecture = architecture_of(12, 5, 0, scale=2.0)
    torch.testing.assert_close(architecture.operation_weights().sum(1), torch.ones(20))
    weights, trellis = architecture.path_weights(), Trellis(12)
    for layer in range(11):
        for row, stride in enumerate(STRIDES):
            wanted = 1.0 if stride in trellis.strides(layer) else 0.0
            assert float(weights[layer, row].sum()) == pytest.approx(wanted)
            for column, after in enumerate((stride // 2, stride, 2 * stride)):
                assert (weights[layer, row, column] > 0) == (wanted > 0 and after in trellis.after(layer, stride))


def test_equal_weights_take_the_first(paper: Genotype) -> None:
    """The finer stride in the first layer where paths differ; the first sources and operations."""
    architecture = Architecture(Trellis(5), 2)
    architecture.alpha.zero_()
    architecture.beta.zero_()
    weights = architecture.path_weights()
    best = max(product(weights, path) for path in Trellis(5).paths())
    assert decode(architecture).strides == next(
        path for path in Trellis(5).paths() if product(weights, path) == pytest.approx(best)
    )
    for block in decode(architecture).blocks:
        assert [branch.source for branch in block] == [0, 1]
        assert all(branch.operation is Operation.SEPARABLE_3X3 for branch in block)


def set_to(architecture: Architecture, genotype: Genotype, value: float = 50.0) -> None:
    """One-hot alpha and beta; what the genotype does not use is alike."""
    architecture.alpha.zero_()
    architecture.beta.zero_()
    for number, block in enumerate(genotype.blocks):
        for branch in block:
            row = architecture.edges.index((number, branch.source))
            architecture.alpha[row, list(Operation).index(branch.operation)] = value
    for layer, (before, after) in enumerate(itertools.pairwise(genotype.strides)):
        architecture.beta[layer, STRIDES.index(before), {0.5: 0, 1: 1, 2: 2}[after / before]] = value


def ordered(genotype: Genotype) -> list[frozenset[object]]:
    return [frozenset(block) for block in genotype.blocks]


@pytest.mark.parametrize("which", ["paper", "varied"])
def test_one_hot_weights_decode_to_their_genotype(which: str, request: pytest.FixtureRequest) -> None:
    genotype: Genotype = request.getfixturevalue(which)
    architecture = Architecture(Trellis(len(genotype.strides)), len(genotype.blocks))
    set_to(architecture, genotype)
    decoded = decode(architecture)
    assert decoded.strides == genotype.strides
    assert ordered(decoded) == ordered(genotype)
    drawn = draw(architecture, np.random.default_rng(0))
    assert drawn.strides == genotype.strides


def test_none_is_never_decoded_or_drawn() -> None:
    architecture = architecture_of(3, 3, 0)
    architecture.alpha[:, -1] = 30.0
    generator = np.random.default_rng(0)
    for genotype in (decode(architecture), *(draw(architecture, generator) for _ in range(50))):
        assert all(branch.operation is not Operation.NONE for block in genotype.blocks for branch in block)
        assert all(first.source != second.source for first, second in genotype.blocks)


def test_draws_follow_the_weights() -> None:
    architecture = architecture_of(2, 1, 3)
    generator = np.random.default_rng(0)
    drawn = [draw(architecture, generator) for _ in range(4000)]
    weights = architecture.operation_weights()[0, :-1]
    wanted = weights / weights.sum()
    found = Counter(genotype.blocks[0][0].operation for genotype in drawn)
    for column, kind in enumerate(list(Operation)[:-1]):
        assert found[kind] / 4000 == pytest.approx(float(wanted[column]), abs=0.04)
    share = sum(genotype.strides == (4, 8) for genotype in drawn) / 4000
    assert share == pytest.approx(float(architecture.path_weights()[0, 0, 2]), abs=0.04)


def test_random_genotypes_are_equally_likely() -> None:
    generator = np.random.default_rng(0)
    drawn = Counter(random_genotype(Trellis(2), 1, generator) for _ in range(98 * 100))
    assert len(drawn) == 2 * 7**2
    assert all(abs(count - 100) < 5 * 10 for count in drawn.values())


def test_one_operation_everywhere(varied: Genotype) -> None:
    skips = uniform_genotype(varied, Operation.SKIP)
    assert skips.strides == varied.strides
    assert {branch.operation for block in skips.blocks for branch in block} == {Operation.SKIP}
    assert [[branch.source for branch in block] for block in skips.blocks] == [
        [branch.source for branch in block] for block in varied.blocks
    ]
