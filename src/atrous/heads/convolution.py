"""The two convolution blocks of the DeepLab heads and their initialisation."""

from __future__ import annotations

from typing import Literal

from torch import nn

from atrous.errors import AtrousError

Norm = Literal["batch", "folded"]
_NORMS: tuple[Norm, ...] = ("batch", "folded")


def conv_block(in_channels: int, out_channels: int, *, kernel: int = 1, norm: Norm = "batch") -> nn.Sequential:
    """Convolution, batch norm, ReLU at stride 1, with zero padding that keeps the size.

    Weights start as TensorFlow slim's (Xavier uniform).

    Args:
        in_channels: Channels of the map.
        out_channels: Channels of the result.
        kernel: Height and width of the kernel, odd.
        norm: ``batch``, or ``folded``: no batch norm, the convolution has a bias instead, as in exported networks.
    """
    convolution = _convolution(in_channels, out_channels, kernel, bias=_is_folded(norm))
    nn.init.xavier_uniform_(convolution.weight)
    return nn.Sequential(convolution, *_normed(out_channels, norm))


def separable_conv_block(
    in_channels: int,
    out_channels: int,
    *,
    kernel: int = 3,
    norm: Norm = "batch",
    depthwise_activation: bool = True,
) -> nn.Sequential:
    """Separable convolution (v3+ §3.1): depthwise, then pointwise, each with batch norm and ReLU.

    Weights start truncated normal with standard deviation 0.33 (depthwise) and 0.06 (pointwise), as in the authors'
    code.

    Args:
        in_channels: Channels of the map.
        out_channels: Channels of the result.
        kernel: Height and width of the kernel, odd.
        norm: See ``conv_block``.
        depthwise_activation: Whether norm and ReLU follow the depthwise convolution as well, or the pointwise one only.
    """
    bias = _is_folded(norm)
    depthwise = _convolution(in_channels, in_channels, kernel, groups=in_channels, bias=bias and depthwise_activation)
    pointwise = _convolution(in_channels, out_channels, 1, bias=bias)
    _truncated_normal(depthwise, 0.33)
    _truncated_normal(pointwise, 0.06)
    between = _normed(in_channels, norm) if depthwise_activation else []
    return nn.Sequential(depthwise, *between, pointwise, *_normed(out_channels, norm))


def classifier(in_channels: int, num_classes: int) -> nn.Conv2d:
    """1×1 convolution to class scores, weights truncated normal with standard deviation 0.01, bias zero."""
    convolution = nn.Conv2d(in_channels, num_classes, 1)
    _truncated_normal(convolution, 0.01)
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return convolution


def _is_folded(norm: Norm) -> bool:
    if norm not in _NORMS:
        raise AtrousError(f"model.head.norm={norm!r} is unknown; choose {' or '.join(_NORMS)}")
    return norm == "folded"


def _convolution(in_channels: int, out_channels: int, kernel: int, *, groups: int = 1, bias: bool) -> nn.Conv2d:
    convolution = nn.Conv2d(
        in_channels,
        out_channels,
        kernel,
        padding=kernel // 2,
        groups=groups,
        bias=bias,
    )
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)
    return convolution


def _normed(channels: int, norm: Norm) -> list[nn.Module]:
    return [*([] if norm == "folded" else [nn.BatchNorm2d(channels)]), nn.ReLU(inplace=True)]


def _truncated_normal(convolution: nn.Conv2d, std: float) -> None:
    """Normal, redrawn beyond two standard deviations, as TensorFlow's initialiser."""
    nn.init.trunc_normal_(convolution.weight, std=std, a=-2 * std, b=2 * std)
