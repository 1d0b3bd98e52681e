"""The filter with holes: taps are read where they lie (the "algorithme à trous", v1 §3.1)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from atrous.geometry import Size, size_of
from atrous.models.atrous_convolution.processor import computed_in
from atrous.models.atrous_convolution.products import weight_gradient as weight_gradient
from atrous.models.atrous_convolution.taps import Taps, flipped, pad_or_cut, spread


def forward(feature: Tensor, weight: Tensor, bias: Tensor | None, taps: Taps, groups: int) -> Tensor:
    """Convolve B×C×h×w."""
    precision = computed_in(feature, taps)
    result = F.conv2d(
        feature.to(precision),
        weight.to(precision),
        None if bias is None else bias.to(precision),
        taps.stride,
        taps.padding,
        taps.rate,
        groups,
    )
    return result.to(feature.dtype)


def input_gradient(slope: Tensor, weight: Tensor, size: Size, taps: Taps, groups: int) -> Tensor:
    """Gradient of the map, B×C×h×w: the forward convolution of the result's gradient with the flipped kernel.

    For depthwise layers it is several times faster than PyTorch's input gradient, which leaves the fast path of the
    convolution library as soon as the rate is above 1.
    """
    slope = spread(slope, taps.stride)
    before = [reach - padding for reach, padding in zip(taps.reach, taps.padding, strict=True)]
    after = [
        extent + reach - given - first
        for extent, reach, given, first in zip(size, taps.reach, size_of(slope), before, strict=True)
    ]
    common = [max(0, min(pair)) for pair in zip(before, after, strict=True)]  # what the convolution pads by itself
    top, left = (first - both for first, both in zip(before, common, strict=True))
    bottom, right = (last - both for last, both in zip(after, common, strict=True))
    turned = Taps(taps.kernel, taps.rate, padding=(common[0], common[1]))
    return forward(pad_or_cut(slope, (left, right, top, bottom)), flipped(weight, groups), None, turned, groups)
