"""Bilinear interpolation that keeps features where they lie in the image."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from atrous.backbones.backbone import Grid


def resize(feature: Tensor, size: tuple[int, int], *, grid: Grid) -> Tensor:
    """Interpolate B×C×h×w bilinearly to a size.

    Args:
        feature: Map whose outermost samples lie on the corners of the image (``points``) or half a cell inside
            (``cells``).
        size: Height and width of the result.
        grid: The backbone's grid. ``points`` is TensorFlow's ``align_corners=True`` of the DeepLab papers.
    """
    if feature.shape[-2:] == size:
        return feature
    return F.interpolate(feature, size=size, mode="bilinear", align_corners=grid == "points")


class Bilinear(nn.Module):
    """Parameter-free upsampling of class scores (DeepLabv1 §3.1, v3 §4.1, v3+ §3.1)."""

    def __init__(self, *, grid: Grid = "points") -> None:
        """Remember the grid of the backbone; see ``resize``."""
        super().__init__()
        self.grid: Grid = grid

    def forward(self, scores: Tensor, size: tuple[int, int]) -> Tensor:
        """Interpolate scores B×C×h×w to logits B×C×H×W."""
        return resize(scores, size, grid=self.grid)
