"""What comes before the first cell: three convolutions, the first and the last of stride 2."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from atrous.errors import AtrousError, require_range
from atrous.geometry import Size, size_of
from atrous.models.nas.genotype import STRIDES
from atrous.models.nas.operations import convolution, norm

CHANNELS = (64, 64, 128)

MEAN = (0.5, 0.5, 0.5)
"""Mean and deviation that the authors' code normalizes images with, in units of 1."""


class Stem(nn.Module):
    """Two maps before their ReLU, which cells begin with: one of stride 2 and one of stride 4.

    Args:
        channels: Of the three convolutions.

    Raises:
        AtrousError: There are not three, or one is not positive.
    """

    def __init__(self, channels: Sequence[int] = CHANNELS) -> None:
        super().__init__()
        require_range("backbone.stem", channels, at_least=1)
        if len(channels) != len(CHANNELS):
            raise AtrousError(f"backbone.stem={list(channels)} must have the channels of three convolutions")
        first, second, third = channels
        self.channels = (second, third)
        self.stride2 = nn.Sequential(
            convolution(3, first, 3, stride=2), norm(first), nn.ReLU(), convolution(first, second, 3), norm(second)
        )
        self.stride4 = nn.Sequential(nn.ReLU(), convolution(second, third, 3, stride=2), norm(third))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the maps of B×3×H×W images."""
        half = self.stride2(image)
        return half, self.stride4(half)


def sizes_from(quarter: Tensor) -> dict[int, Size]:
    """Height and width of the maps of every stride, given that of stride 4."""
    height, width = size_of(quarter)
    steps = {stride: stride // STRIDES[0] for stride in STRIDES}
    return {stride: ((height + step - 1) // step, (width + step - 1) // step) for stride, step in steps.items()}
