"""A cell that mixes all operations on all edges (Auto-DeepLab §3.3)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from atrous.geometry import Size
from atrous.models.nas.genotype import FIRST, SECOND
from atrous.models.nas.mixture import Chosen, Mixture
from atrous.models.nas.operations import Projection, every
from atrous.models.nas.plain_norm import PlainNorm
from atrous.models.nas.trellis import row_of


class MixedCell(nn.Module):
    """A cell that mixes all operations on all edges.

    Args:
        blocks: Blocks of the cell.
        first: Channels of what the cell before gives.
        seconds: Channels of what the one before that gives, by its stride.
        channels: Channels of a block.
        reduces: Whether the cell's stride is twice that of the one before.
        partial_channels: Operations are mixed on one of so many channels.
    """

    def __init__(
        self,
        *,
        blocks: int,
        first: int,
        seconds: Mapping[int, int],
        channels: int,
        reduces: bool,
        partial_channels: int = 1,
    ) -> None:
        super().__init__()
        self.stride = 2 if reduces else 1
        self.count = blocks
        self.partial_channels = partial_channels
        self.first = Projection(first, channels, norm=PlainNorm)
        self.seconds = nn.ModuleDict(
            {str(stride): Projection(second, channels, norm=PlainNorm) for stride, second in seconds.items()}
        )
        # by source: the blocks that it goes to, and the rows of alpha of these edges
        self._blocks = [range(max(0, source - SECOND), blocks) for source in range(blocks + 1)]
        self._rows = [[row_of(block, source) for block in of] for source, of in enumerate(self._blocks)]
        self.mixtures = nn.ModuleList(
            Mixture(channels // partial_channels, len(of), stride=self.stride if source <= SECOND else 1)
            for source, of in enumerate(self._blocks)
        )

    def forward(
        self, first: Tensor, second: Tensor, second_stride: int, size: Size, operations: Tensor, chosen: Chosen | None
    ) -> Tensor:
        """Compute B×(blocks·C)×h×w.

        Args:
            first: What the cell before gives.
            second: What the one before that gives.
            second_stride: Its stride; without weights for it, it counts as nothing.
            size: Height and width at which the inputs meet.
            operations: Weights of the operations, a row an edge.
            chosen: The operations of every edge that are computed; ``None`` for all.
        """
        states: dict[int, Tensor] = {FIRST: self.first(first, size)}
        if str(second_stride) in self.seconds:
            states[SECOND] = self.seconds[str(second_stride)](second, size)
        sums: dict[int, Tensor] = {}
        for source, (mixture, blocks, rows) in enumerate(zip(self.mixtures, self._blocks, self._rows, strict=True)):
            if source > SECOND and source - SECOND - 1 in sums:
                states[source] = _shuffled(sums[source - SECOND - 1], self.partial_channels)
            if source in states:
                stride = self.stride if source <= SECOND else 1
                only = None if chosen is None else [chosen[row] for row in rows]
                results = self._mixed(mixture, states[source], stride, operations[rows], only)
                for block, result in zip(blocks, results, strict=True):
                    if result is not None:
                        sums[block] = sums[block] + result if block in sums else result
        if len(sums) < self.count:
            empty = torch.zeros_like(every(states[FIRST], self.stride))
            sums = {block: sums.get(block, empty) for block in range(self.count)}
        return torch.cat([sums[block] for block in range(self.count)], dim=1)

    def _mixed(
        self, mixture: nn.Module, state: Tensor, stride: int, operations: Tensor, chosen: Chosen | None
    ) -> list[Tensor | None]:
        channels = state.shape[1] // self.partial_channels
        results: list[Tensor | None] = mixture(state[:, :channels], operations, chosen)
        if self.partial_channels == 1:
            return results
        passed = every(state[:, channels:], stride)
        return [None if result is None else torch.cat([result, passed], dim=1) for result in results]


def _shuffled(feature: Tensor, groups: int) -> Tensor:
    """Channels in another order, so that the next operations mix others."""
    return feature if groups == 1 else nn.functional.channel_shuffle(feature, groups)
