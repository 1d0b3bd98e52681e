"""Products: for each tap, the part of the map that it sees times its filters; every one a product of matrices."""

from __future__ import annotations

import torch
from torch import Tensor

from atrous.geometry import Size, size_of
from atrous.models.atrous_convolution.processor import computed_in
from atrous.models.atrous_convolution.taps import Taps, flipped, memory_format_of, spread


def forward(feature: Tensor, weight: Tensor, bias: Tensor | None, taps: Taps, groups: int) -> Tensor:
    """Convolve B×C×h×w."""
    result = _convolve(feature, weight, bias, taps, groups, taps.size_of_result(size_of(feature)))
    return result.contiguous(memory_format=memory_format_of(feature))


def input_gradient(slope: Tensor, weight: Tensor, size: Size, taps: Taps, groups: int) -> Tensor:
    """Gradient of the map, B×C×h×w: the convolution of the result's gradient with the flipped kernel."""
    slope = spread(slope, taps.stride)
    rows, columns = (reach - padding for reach, padding in zip(taps.reach, taps.padding, strict=True))
    turned = Taps(taps.kernel, taps.rate, padding=(rows, columns))  # the padding may be negative
    result = _convolve(slope, flipped(weight, groups), None, turned, groups, size)
    return result.contiguous(memory_format=memory_format_of(slope))


def weight_gradient(slope: Tensor, feature: Tensor, taps: Taps, groups: int) -> Tensor:
    """Gradient of the filters, O×(C/groups)×k×k: products of the result's gradient and the shifted map.

    Sums have at least float32.
    """
    outputs, channels = slope.shape[1], feature.shape[1]
    size, precision, sums = size_of(feature), computed_in(feature), _at_least_float32(feature)
    slopes, rows = slope.permute(0, 2, 3, 1), feature.permute(0, 2, 3, 1)  # B×h×w×O and B×H×W×C
    shape = (*taps.kernel, groups, outputs // groups, channels // groups)
    gradient = torch.zeros(shape, dtype=sums, device=feature.device)
    for i in range(taps.kernel[0]):
        for j in range(taps.kernel[1]):
            where = taps.seen_by(i, j, size, size_of(slope))
            if where is None:
                continue
            theirs, ours = slopes[:, where[0], where[1]], rows[:, where[2], where[3]]
            if outputs == channels == groups:
                gradient[i, j, :, 0, 0] = (theirs * ours).sum((0, 1, 2), dtype=sums)
            elif groups == 1:
                left = theirs.reshape(-1, outputs).to(precision)  # N×O, N places
                gradient[i, j, 0] = left.T @ ours.reshape(-1, channels).to(precision)
            else:
                left = theirs.reshape(-1, groups, outputs // groups).to(sums)
                right = ours.reshape(-1, groups, channels // groups).to(sums)
                gradient[i, j] = torch.einsum("ngo,ngc->goc", left, right)
    return gradient.flatten(2, 3).permute(2, 3, 0, 1).to(slope.dtype)  # k×k×O×(C/groups) → O×(C/groups)×k×k


def _convolve(feature: Tensor, weight: Tensor, bias: Tensor | None, taps: Taps, groups: int, size: Size) -> Tensor:
    """Sum the products of all taps in at least float32: B×O×h×w, whose channels lie together."""
    batch, channels = feature.shape[:2]
    outputs, precision, sums = weight.shape[0], computed_in(feature), _at_least_float32(feature)
    rows = feature.permute(0, 2, 3, 1)  # B×H×W×C
    result = torch.zeros((batch, *size, outputs), dtype=sums, device=feature.device)
    if bias is not None:
        result += bias
    for i in range(taps.kernel[0]):
        for j in range(taps.kernel[1]):
            where = taps.seen_by(i, j, size_of(feature), size)
            if where is None:
                continue
            filters, seen = weight[:, :, i, j], rows[:, where[2], where[3]]  # O×(C/groups) and B×m×n×C
            if outputs == channels == groups:
                product = seen.to(sums) * filters.squeeze(1).to(sums)
            elif groups == 1:
                product = seen.to(precision) @ filters.T.to(precision)
            else:
                parts = seen.reshape(*seen.shape[:3], groups, channels // groups).to(sums)
                of_group = filters.reshape(groups, outputs // groups, channels // groups).to(sums)
                product = torch.einsum("bmngc,goc->bmngo", parts, of_group).flatten(3)
            result[:, where[0], where[1]] += product
    return result.to(feature.dtype).permute(0, 3, 1, 2)


def _at_least_float32(feature: Tensor) -> torch.dtype:
    return torch.promote_types(feature.dtype, torch.float32)
