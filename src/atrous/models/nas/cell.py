"""The cell of a found network (Auto-DeepLab §3.1, figure 3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from atrous.geometry import Size
from atrous.models.nas.genotype import SECOND, Block
from atrous.models.nas.operations import Projection, Skip, operation


class Cell(nn.Module):
    """Blocks of two operations each, whose results are concatenated.

    Both inputs are brought to the size of the first, or to twice that where the stride halves, and to the channels of
    a block. Where the stride doubles, the operations on the two inputs do it (TensorFlow DeepLab, core/nas_cell.py).

    Args:
        blocks: What the blocks do.
        first: Channels of what the cell before gives.
        second: Channels of what the one before that gives.
        channels: Channels of a block.
        reduces: Whether the cell's stride is twice that of the one before.
    """

    def __init__(self, blocks: tuple[Block, ...], *, first: int, second: int, channels: int, reduces: bool) -> None:
        super().__init__()
        self.first = Projection(first, channels)
        self.second = Projection(second, channels)
        self.blocks = nn.ModuleList()
        self._sources = [[branch.source for branch in block] for block in blocks]
        for block in blocks:
            strides = [2 if reduces and branch.source <= SECOND else 1 for branch in block]
            self.blocks.append(
                nn.ModuleList(
                    operation(branch.operation, channels, stride=stride)
                    for branch, stride in zip(block, strides, strict=True)
                )
            )

    def forward(self, first: Tensor, second: Tensor, size: Size, drop: float = 0.0) -> Tensor:
        """Compute B×(blocks·C)×h×w.

        Args:
            first: What the cell before gives.
            second: What the one before that gives.
            size: Height and width at which the inputs meet.
            drop: Probability of leaving out an operation's result for an image.
        """
        states = [self.first(first, size), self.second(second, size)]
        for block, sources in zip(self.blocks, self._sources, strict=True):
            assert isinstance(block, nn.ModuleList)
            results = [
                _dropped(made(states[source]), 0.0 if isinstance(made, Skip) else drop)
                for made, source in zip(block, sources, strict=True)
            ]
            states.append(results[0] + results[1])
        return torch.cat(states[2:], dim=1)


def _dropped(feature: Tensor, probability: float) -> Tensor:
    """Nothing for some images, and more for the others."""
    if not probability:
        return feature
    kept = torch.rand(len(feature), 1, 1, 1, device=feature.device) >= probability
    return feature * (kept / (1 - probability)).to(feature.dtype)
