"""The modified aligned Xception: blocks, strides and atrous rates of the authors' code (core/xception.py)."""

from __future__ import annotations

import functools

import pytest
from torch import nn

from atrous.models.backbones import TimmBackbone

MIDDLE = (728, 728, 728)
ENTRY = {
    41: [((128,) * 3, 2), ((256,) * 3, 2), ((728,) * 3, 2)],
    65: [((128,) * 3, 2), ((256,) * 3, 2), ((728,) * 3, 2)],
    71: [((128,) * 3, 2), ((256,) * 3, 1), ((256,) * 3, 2), ((728,) * 3, 1), ((728,) * 3, 2)],
}
UNITS = {41: 8, 65: 16, 71: 16}
EXIT = [((728, 1024, 1024), 2), ((1536, 1536, 2048), 1)]


@functools.cache
def built(depth: int) -> TimmBackbone:
    last = len(ENTRY[depth]) + UNITS[depth] + 1
    return TimmBackbone(f"xception{depth}", output_stride=32, taps=["blocks.0.stack.conv2", f"blocks.{last}"])


def blocks_of(depth: int, output_stride: int) -> list[nn.Module]:
    backbone = built(depth)
    backbone.set_output_stride(output_stride)
    return list(backbone.network.blocks)


def depthwise(block: nn.Module) -> list[nn.Conv2d]:
    return [m for m in block.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]


def widths(block: nn.Module) -> tuple[int, ...]:
    pointwise = [m for name, m in block.named_modules() if isinstance(m, nn.Conv2d) and m.groups == 1]
    shortcut = getattr(block, "shortcut", None)
    inside = set(shortcut.modules()) if shortcut is not None else set()
    return tuple(m.out_channels for m in pointwise if m not in inside)


@pytest.mark.parametrize("depth", [41, 65, 71])
def test_blocks_and_strides(depth: int) -> None:
    """The stride stands on the third separable convolution; there is no pooling."""
    blocks = blocks_of(depth, 32)
    expected = [*ENTRY[depth], *[(MIDDLE, 1)] * UNITS[depth], *EXIT]
    assert [widths(block) for block in blocks] == [channels for channels, _ in expected]
    assert [[c.stride[0] for c in depthwise(block)] for block in blocks] == [[1, 1, s] for _, s in expected]
    assert not [m for block in blocks for m in block.modules() if isinstance(m, nn.MaxPool2d | nn.AvgPool2d)]


@pytest.mark.parametrize("depth", [41, 65, 71])
@pytest.mark.parametrize(
    ("output_stride", "entry", "middle", "exits"), [(32, 1, 1, (1, 1)), (16, 1, 1, (1, 2)), (8, 1, 2, (2, 4))]
)
def test_rates(depth: int, output_stride: int, entry: int, middle: int, exits: tuple[int, int]) -> None:
    """At 16 the last block has rate 2; at 8 middle flow and first exit block have 2, the last 4."""
    blocks = blocks_of(depth, output_stride)
    rates = [{c.dilation[0] for c in depthwise(block)} for block in blocks]
    entries = len(ENTRY[depth])
    assert rates[:entries] == [{entry}] * entries
    assert rates[entries:-2] == [{middle}] * UNITS[depth]
    assert rates[-2:] == [{exits[0]}, {exits[1]}]


def test_only_the_last_block_has_a_relu_behind_its_depthwise_convolutions() -> None:
    """Elsewhere a ReLU stands in front of them, and batch norm alone after them."""
    blocks = blocks_of(41, 16)
    for block in (blocks[1], blocks[5], blocks[-2], blocks[-1]):
        convolution = next(m for m in block.modules() if type(m).__name__ == "SeparableConv2d")
        activations = [getattr(convolution, name) for name in ("act_dw", "act_pw") if hasattr(convolution, name)]
        kinds = {type(activation) for activation in activations} - {nn.Identity}
        assert bool(kinds) == (block is blocks[-1])
