"""Transposed convolution that starts as bilinear interpolation (FCN, §3.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from atrous.errors import AtrousError
from atrous.geometry import Grid, Size
from atrous.models.upsamplers.upsampler import Upsampler


class Deconvolution(Upsampler):
    """One learned transposed convolution from scores to logits.

    Before training it is exactly ``Bilinear`` on a grid of points, where a kernel of ``2·ratio − 1`` is centered on
    each feature's pixel, and all but the outermost half window of it on one of cells.

    Args:
        grid: Grid of the backbone.
        num_classes: Number of classes.
        ratio: Pixels per score: the stride of the head's scores.
        mixes_classes: Whether every class's logit sees the scores of all classes (FCN), or only its own.

    Raises:
        AtrousError: The ratio is not an even number of at least 2.
    """

    def __init__(self, *, grid: Grid, num_classes: int, ratio: int, mixes_classes: bool = True) -> None:
        super().__init__()
        _require_even(ratio)
        self.grid = grid
        self.ratio = ratio
        self.score_channels = num_classes
        self.num_classes = num_classes
        kernel = 2 * ratio - grid.extra
        padding = kernel // 2 - grid.place(ratio)  # the first kernel's middle comes to lie on the first feature
        self.convolution = nn.ConvTranspose2d(
            num_classes,
            num_classes,
            kernel,
            stride=ratio,
            padding=padding,
            groups=1 if mixes_classes else num_classes,
            bias=False,
        )
        distance = (torch.arange(kernel) - (kernel - 1) / 2).abs() / ratio
        ramp = 1 - distance
        tent = ramp[:, None] * ramp
        with torch.no_grad():
            self.convolution.weight.zero_()
            for label in range(num_classes):
                self.convolution.weight[label, label if mixes_classes else 0] = tent

    def forward(self, scores: Tensor, size: Size) -> Tensor:
        """Map scores B×C×h×w to logits B×C×H×W."""
        logits: Tensor = self.convolution(scores)  # B×C×h×w → B×C×(ratio·h)×(ratio·w), or one stride less
        return logits[..., : size[0], : size[1]]


def _require_even(ratio: int) -> None:
    if ratio < 2 or ratio % 2:
        raise AtrousError(f"upsampler.ratio={ratio} must be an even number: the stride of the head's scores")
