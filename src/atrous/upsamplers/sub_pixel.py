"""Dense upsampling convolution: every score predicts all pixels around it (DUC, arXiv 1702.08502 §3.1)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from atrous.backbones.backbone import Grid
from atrous.errors import AtrousError
from atrous.upsamplers.upsampler import Upsampler


def shuffle_windows(windows: Tensor, size: tuple[int, int], *, side: int, grid: Grid) -> Tensor:
    """Lay out square windows B×(C·side²)×h×w next to each other and cut the image out: B×C×H×W.

    Channels count classes first, then the window's rows, then its columns. On a grid of cells the window of feature
    ``i`` begins at pixel ``side·i``; on one of points, where the feature lies on that pixel, half a window before it.

    Args:
        windows: What the network says about the window of each feature.
        size: Height and width of the image.
        side: Height and width of a window.
        grid: Grid of the backbone.
    """
    laid_out = F.pixel_shuffle(windows, side)
    first = side // 2 if grid == "points" else 0
    return laid_out[..., first : first + size[0], first : first + size[1]]


class SubPixel(Upsampler):
    """Depth to space: the head's channels are the logits of a window of pixels (DUC; sub-pixel convolution).

    It has no weights of its own; the head's last convolution learns what upsampling is.
    """

    ratio: int

    def __init__(self, *, grid: Grid, num_classes: int, ratio: int, cell: int = 1) -> None:
        """Set the window.

        Args:
            grid: Grid of the backbone.
            num_classes: Number of classes.
            ratio: Side of the window in pixels: the stride of the head's scores.
            cell: Pixels that share a logit before a last bilinear enlargement; the authors' Cityscapes network has 2.

        Raises:
            AtrousError: The ratio is not even, or not a multiple of the cell.
        """
        super().__init__()
        if ratio < 2 or ratio % 2 or cell < 1 or ratio % cell:
            raise AtrousError(f"upsampler.ratio={ratio} must be even and a multiple of upsampler.cell={cell}")
        self.grid: Grid = grid
        self.ratio = ratio
        self.cell = cell
        self.score_channels = num_classes * (ratio // cell) ** 2

    def forward(self, scores: Tensor, size: tuple[int, int]) -> Tensor:
        """Map windows of logits B×(C·d²)×h×w, classes first, to logits B×C×H×W."""
        if self.cell == 1:
            return shuffle_windows(scores, size, side=self.ratio, grid=self.grid)
        cells = F.pixel_shuffle(scores, self.ratio // self.cell)
        pixels = F.interpolate(cells, scale_factor=float(self.cell), mode="bilinear", align_corners=False)
        first = self.ratio // 2 if self.grid == "points" else 0
        return pixels[..., first : first + size[0], first : first + size[1]]
