"""PyTorch's convolution as it comes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from atrous.geometry import Size
from atrous.models.atrous_convolution.taps import Taps


def forward(feature: Tensor, weight: Tensor, bias: Tensor | None, taps: Taps, groups: int) -> Tensor:
    """Convolve B×C×h×w."""
    return F.conv2d(feature, weight, bias, taps.stride, taps.padding, taps.rate, groups)


def input_gradient(slope: Tensor, weight: Tensor, size: Size, taps: Taps, groups: int) -> Tensor:
    """Gradient of the map, B×C×h×w."""
    like = slope.new_empty(()).expand(slope.shape[0], weight.shape[1] * groups, *size)
    return _backward(slope, like, weight, taps, groups, (True, False))[0]


def weight_gradient(slope: Tensor, feature: Tensor, taps: Taps, groups: int) -> Tensor:
    """Gradient of the filters, O×(C/groups)×k×k."""
    like = slope.new_empty(()).expand(slope.shape[1], feature.shape[1] // groups, *taps.kernel)
    return _backward(slope, feature, like, taps, groups, (False, True))[1]


def _backward(
    slope: Tensor, feature: Tensor, weight: Tensor, taps: Taps, groups: int, wanted: tuple[bool, bool]
) -> tuple[Tensor, Tensor]:
    stride, padding, rate = list(taps.stride), list(taps.padding), list(taps.rate)
    gradients: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
        slope, feature, weight, None, stride, padding, rate, False, [0, 0], groups, [*wanted, False]
    )
    return gradients[0], gradients[1]
