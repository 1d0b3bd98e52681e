"""The two convolution blocks of the DeepLab heads and their initialisation."""

from __future__ import annotations

from torch import nn


def conv_block(in_channels: int, out_channels: int, *, kernel: int = 1, rate: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU at stride 1, with zero padding that keeps the size.

    Weights start as TensorFlow slim's (Xavier uniform).
    """
    convolution = nn.Conv2d(in_channels, out_channels, kernel, padding=rate * (kernel // 2), dilation=rate, bias=False)
    nn.init.xavier_uniform_(convolution.weight)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


def separable_conv_block(in_channels: int, out_channels: int, *, kernel: int = 3, rate: int = 1) -> nn.Sequential:
    """Atrous separable convolution (v3+ §3.1): depthwise at a rate, then pointwise, each with batch norm and ReLU.

    Weights start truncated normal with standard deviation 0.33 (depthwise) and 0.06 (pointwise), as in the authors'
    code.
    """
    depthwise = nn.Conv2d(
        in_channels,
        in_channels,
        kernel,
        padding=rate * (kernel // 2),
        dilation=rate,
        groups=in_channels,
        bias=False,
    )
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


def classifier(in_channels: int, num_classes: int) -> nn.Conv2d:
    """1×1 convolution to class scores, weights truncated normal with standard deviation 0.01, bias zero."""
    convolution = nn.Conv2d(in_channels, num_classes, 1)
    _truncated_normal(convolution, 0.01)
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return convolution


def _truncated_normal(convolution: nn.Conv2d, std: float) -> None:
    """Normal, redrawn beyond two standard deviations, as TensorFlow's initialiser."""
    nn.init.trunc_normal_(convolution.weight, std=std, a=-2 * std, b=2 * std)
