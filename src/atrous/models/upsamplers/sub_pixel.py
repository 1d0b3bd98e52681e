"""Dense upsampling convolution: every score predicts all pixels around it (DUC, arXiv 1702.08502 §3.1)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from atrous.errors import AtrousError
from atrous.geometry import Grid, Size
from atrous.models.upsamplers.upsampler import Upsampler


class SubPixel(Upsampler):
    """Depth to space: the head's channels are the logits of a window of pixels (DUC; sub-pixel convolution).

    It has no weights of its own; the head's last convolution learns the upsampling.

    Args:
        grid: Grid of the backbone.
        num_classes: Number of classes.
        ratio: Side of the window in pixels: the stride of the head's scores.
        cell: Pixels that share a logit before a last bilinear enlargement; the authors' Cityscapes network has 2.

    Raises:
        AtrousError: The ratio is not even, or not a multiple of the cell.
    """

    ratio: int

    def __init__(self, *, grid: Grid, num_classes: int, ratio: int, cell: int = 1) -> None:
        super().__init__()
        if ratio < 2 or ratio % 2 or cell < 1 or ratio % cell:
            raise AtrousError(f"upsampler.ratio={ratio} must be even and a multiple of upsampler.cell={cell}")
        self.grid = grid
        self.ratio = ratio
        self.cell = cell
        self.score_channels = num_classes * (ratio // cell) ** 2

    def forward(self, scores: Tensor, size: Size) -> Tensor:
        """Map windows of logits B×(C·d²)×h×w, classes first, to logits B×C×H×W."""
        if self.cell == 1:
            return self.grid.lay_out(scores, size, side=self.ratio)
        cells = F.pixel_shuffle(scores, self.ratio // self.cell)  # B×C×(h·d)×(w·d)
        pixels = F.interpolate(cells, scale_factor=float(self.cell), mode="bilinear", align_corners=False)
        return self.grid.cut_out(pixels, size, side=self.ratio)
