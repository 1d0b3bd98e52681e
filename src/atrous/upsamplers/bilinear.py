"""Bilinear interpolation that keeps features where they lie in the image."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from atrous.backbones.backbone import Grid
from atrous.upsamplers.upsampler import Upsampler


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


class Bilinear(Upsampler):
    """Parameter-free upsampling of class scores (DeepLabv1 §3.1, v3 §4.1, v3+ §3.1)."""

    def __init__(self, *, grid: Grid, num_classes: int, align_corners: bool | None = None) -> None:
        """Remember where the outermost scores lie; see ``resize``.

        Args:
            grid: Grid of the backbone.
            num_classes: Number of classes.
            align_corners: Whether the outermost scores lie on the image's corners or half a cell inside, whatever the
                backbone's grid: for networks that were trained so; ``None`` as the grid has them.
        """
        super().__init__()
        self.score_channels = num_classes
        self.grid: Grid = grid if align_corners is None else "points" if align_corners else "cells"

    def forward(self, scores: Tensor, size: tuple[int, int]) -> Tensor:
        """Interpolate scores B×C×h×w to logits B×C×H×W."""
        return resize(scores, size, grid=self.grid)
