"""A genotype that has every operation, and weights that go from a searched network to the found one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from atrous.models.nas import AutoDeepLab, Genotype, Supernet

PAPER = Path(__file__).resolve().parents[3] / "conf" / "genotype" / "auto_deeplab.yaml"


@pytest.fixture
def paper() -> Genotype:
    return Genotype.of(PAPER)


@pytest.fixture
def varied() -> Genotype:
    """Up, down and straight on, all operations but none, and inputs of every kind."""
    return Genotype.of(
        {
            "strides": [4, 8, 16, 8, 8, 4],
            "blocks": [
                [["max_pooling_3x3", "l-1"], ["separable_5x5", "l-2"]],
                [["skip", "l-1"], ["atrous_3x3", "block 1"]],
                [["average_pooling_3x3", "l-2"], ["separable_3x3", "block 2"]],
                [["skip", "l-2"], ["atrous_5x5", "l-1"]],
            ],
        }
    )


def _copy(target: nn.Module, source: nn.Module, row: int, edges: int) -> None:
    for name, tensor in target.state_dict().items():
        if name in ("weight", "running_mean", "running_var") and name in source.state_dict():
            whole = source.state_dict()[name]
            tensor.copy_(whole.view(edges, -1, *whole.shape[1:])[row])


@torch.no_grad()
def _move(supernet: Supernet, found: AutoDeepLab) -> None:
    """Give a found network the weights of the searched one, edge by edge."""
    found.stem.load_state_dict(supernet.stem.state_dict())
    strides = (2, 4, *found.genotype.strides)
    for layer, cell in enumerate(found.cells):
        second, before, stride = strides[layer : layer + 3]
        mixed = supernet.layers[layer].cells[f"{before} to {stride}"]
        for name, projection in (("first", mixed.first), ("second", mixed.seconds[str(second)])):
            cell.get_submodule(name).load_state_dict(projection.state_dict(), strict=False)
        for number, block in enumerate(found.genotype.blocks):
            for place, branch in enumerate(block):
                mixture = mixed.mixtures[branch.source]
                row = number - max(0, branch.source - 1)
                operation = cell.blocks[number][place]
                kind = branch.operation.value
                if "separable" in kind:
                    parts = mixture.convolutions[kind]
                    for half in range(2):
                        for offset, kept in ((1, parts.depthwise), (2, parts.pointwise), (3, parts.norms)):
                            _copy(operation[4 * half + offset], kept[half], row, mixture.edges)
                elif "atrous" in kind:
                    _copy(operation[2], mixture.convolutions[kind].convolution, row, mixture.edges)
                    _copy(operation[3], mixture.convolutions[kind].norm, row, mixture.edges)
                elif "pooling" in kind:
                    _copy(operation[1], mixture.norms[kind], 0, 1)


@pytest.fixture
def move() -> Callable[[Supernet, AutoDeepLab], None]:
    return _move
