"""The filter with holes: taps are read where they lie (the "algorithme à trous", v1 §3.1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from atrous.geometry import Size, size_of
from atrous.models.atrous_convolution.processor import computed_in
from atrous.models.atrous_convolution.taps import Taps, flipped, pad_or_cut, spread


def forward(feature: Tensor, weight: Tensor, bias: Tensor | None, taps: Taps, groups: int) -> Tensor:
    """Convolve B×C×h×w."""
    precision = computed_in(feature)
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


def weight_gradient(slope: Tensor, feature: Tensor, taps: Taps, groups: int) -> Tensor:
    """Gradient of the filters, O×(C/groups)×k×k: for each tap, products of the result's gradient and the shifted map.

    Sums have at least float32. In a full convolution the products of one tap are one product of matrices.
    """
    outputs, channels = slope.shape[1], feature.shape[1]
    size, precision = size_of(feature), computed_in(feature)
    slope_rows = slope.permute(0, 2, 3, 1)  # B×h×w×O
    rows = feature.permute(0, 2, 3, 1)  # B×H×W×C
    at_least_float32 = torch.promote_types(feature.dtype, torch.float32)
    gradient = torch.zeros(
        (*taps.kernel, groups, outputs // groups, channels // groups), dtype=at_least_float32, device=feature.device
    )
    for i in range(taps.kernel[0]):
        for j in range(taps.kernel[1]):
            where = taps.seen_by(i, j, size)
            if where is None:
                continue
            theirs = slope_rows[:, where[0], where[1]]
            ours = rows[:, where[2], where[3]]
            if outputs == channels == groups:
                gradient[i, j, :, 0, 0] = (theirs * ours).sum((0, 1, 2), dtype=at_least_float32)
            elif groups == 1:
                left = theirs.reshape(-1, outputs).to(precision)  # N×O, N places
                gradient[i, j, 0] = left.T @ ours.reshape(-1, channels).to(precision)
            else:
                left = theirs.reshape(-1, groups, outputs // groups).to(at_least_float32)
                right = ours.reshape(-1, groups, channels // groups).to(at_least_float32)
                gradient[i, j] = torch.einsum("ngo,ngc->goc", left, right)
    return gradient.flatten(2, 3).permute(2, 3, 0, 1).to(slope.dtype)  # k×k×O×(C/groups) → O×(C/groups)×k×k
