"""The two convolution blocks of the DeepLab heads, their classifier, and how all three are initialized."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from torch import nn

ConvBlock = Callable[..., nn.Sequential]
"""Called with the channels of the map and of the result, and with the kernel's size as ``kernel``."""


def conv_block(in_channels: int, out_channels: int, *, kernel: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU at stride 1, with zero padding that keeps the size.

    Weights are initialized as in TensorFlow slim (Xavier uniform).

    Args:
        in_channels: Channels of the map.
        out_channels: Channels of the result.
        kernel: Height and width of the kernel, odd.
    """
    convolution = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False)
    nn.init.xavier_uniform_(convolution.weight)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


def separable_conv_block(in_channels: int, out_channels: int, *, kernel: int = 3) -> nn.Sequential:
    """Separable convolution (v3+ §3.1): depthwise, then pointwise, each with batch norm and ReLU.

    Weights start truncated normal with standard deviation 0.33 (depthwise) and 0.06 (pointwise), as in the authors'
    code.

    Args:
        in_channels: Channels of the map.
        out_channels: Channels of the result.
        kernel: Height and width of the kernel, odd.
    """
    depthwise = nn.Conv2d(in_channels, in_channels, kernel, padding=kernel // 2, groups=in_channels, bias=False)
    pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)
    _truncated_normal(depthwise, 0.33)
    _truncated_normal(pointwise, 0.06)
    return nn.Sequential(
        depthwise,
        nn.BatchNorm2d(in_channels),
        nn.ReLU(inplace=True),
        pointwise,
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def conv_stack(
    in_channels: int, out_channels: int, *, depth: int, block: ConvBlock = conv_block, kernel: int = 3
) -> nn.Sequential:
    """Several blocks in a row; none for a depth of 0."""
    widths = [in_channels] + [out_channels] * depth
    return nn.Sequential(*(block(before, after, kernel=kernel) for before, after in pairwise(widths)))


def classifier(in_channels: int, num_classes: int) -> nn.Conv2d:
    """1×1 convolution to class scores, weights truncated normal with standard deviation 0.01, bias zero."""
    convolution = nn.Conv2d(in_channels, num_classes, 1)
    _truncated_normal(convolution, 0.01)
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return convolution


def _truncated_normal(convolution: nn.Conv2d, std: float) -> None:
    """Normal, redrawn outside two standard deviations, like TensorFlow's initializer."""
    nn.init.trunc_normal_(convolution.weight, std=std, a=-2 * std, b=2 * std)
