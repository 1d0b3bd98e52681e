"""Bilinear interpolation that keeps features where they lie in the image."""

from __future__ import annotations

from torch import Tensor

from atrous.geometry import Grid, Size, interpolate, pixels_of, size_of
from atrous.models.upsamplers.upsampler import Upsampler


class Bilinear(Upsampler):
    """Parameter-free upsampling of class scores (DeepLabv1 §3.1, v3 §4.1, v3+ §3.1).

    Args:
        grid: Grid of the backbone.
        num_classes: Number of classes.
        align_corners: Whether the outermost scores lie on the image's corners or half a cell inside, whatever the
            backbone's grid: for networks trained that way; ``None`` to follow the grid.
    """

    def __init__(self, *, grid: Grid, num_classes: int, align_corners: bool | None = None) -> None:
        super().__init__()
        self.score_channels = num_classes
        self.grid = grid
        if align_corners is not None:
            self.grid = Grid.POINTS if align_corners else Grid.CELLS

    def forward(self, scores: Tensor, size: Size) -> Tensor:
        """Interpolate scores B×C×h×w to logits B×C×H×W."""
        return self.grid.resize(scores, size)

    def rows(self, scores: Tensor, size: Size, rows: slice) -> Tensor:
        """Some rows of ``forward(scores, size)``: B×C×n×W."""
        return self.at(scores, size, pixels_of(size[0])[rows], pixels_of(size[1]))

    def at(self, scores: Tensor, size: Size, down: Tensor, across: Tensor) -> Tensor:
        """Logits at any places, interpolated between scores, not between pixels: B×C×n×m."""
        height, width = size_of(scores)
        down, across = self.grid.places(down, size[0], height), self.grid.places(across, size[1], width)
        return interpolate(scores, down, across)
