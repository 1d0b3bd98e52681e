"""Deinterlace, convolve, interleave: a rate r splits a map into r·r maps with an ordinary convolution each (v1 §3.1).

TensorFlow calls the steps "space to batch" and "batch to space". All of it keeps channels together in memory: in
another order the copies cost more than the convolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from atrous.geometry import Size, size_of
from atrous.models.atrous_convolution.processor import computed_in
from atrous.models.atrous_convolution.taps import Pair, Taps, flipped, memory_format_of, spread


def forward(feature: Tensor, weight: Tensor, bias: Tensor | None, taps: Taps, groups: int) -> Tensor:
    """Convolve B×C×h×w; a stride above 1 leaves out results that were computed."""
    at_stride_1 = Taps(taps.kernel, taps.rate, padding=taps.padding)
    size = at_stride_1.size_of_result(size_of(feature))
    plan = _plan(at_stride_1, size_of(feature))
    precision = computed_in(feature)
    parts = _deinterlace(feature, taps.rate, plan.before, plan.places)  # (r·r·B)×C×m×n
    ordinary = F.conv2d(
        parts.to(precision),
        weight.to(precision),
        None if bias is None else bias.to(precision),
        padding=plan.padding,
        groups=groups,
    )
    result = _interleave(ordinary.to(feature.dtype), taps.rate, (0, 0), size)
    kept = result[..., :: taps.stride[0], :: taps.stride[1]]
    return kept.contiguous(memory_format=memory_format_of(feature))


def input_gradient(slope: Tensor, weight: Tensor, size: Size, taps: Taps, groups: int) -> Tensor:
    """Gradient of the map, B×C×h×w; the forward convolution with the flipped kernel, unless the padding is too wide."""
    slope = spread(slope, taps.stride)
    rows, columns = (reach - padding for reach, padding in zip(taps.reach, taps.padding, strict=True))
    turned = Taps(taps.kernel, taps.rate, padding=(max(rows, 0), max(columns, 0)))
    if min(rows, columns) >= 0 and turned.size_of_result(size_of(slope)) == size:
        return forward(slope, flipped(weight, groups), None, turned, groups)
    taps = Taps(taps.kernel, taps.rate, padding=taps.padding)
    plan, parts = _parts_of_slope(slope, size, taps)
    like = parts.new_empty(()).expand(len(parts), weight.shape[1] * groups, *plan.places)
    gradient = _backward(parts, like, weight.to(parts.dtype), plan.padding, groups, (True, False))[0]
    return _interleave(gradient.to(slope.dtype), taps.rate, plan.before, size)


def weight_gradient(slope: Tensor, feature: Tensor, taps: Taps, groups: int) -> Tensor:
    """Gradient of the filters, O×(C/groups)×k×k."""
    plan, parts = _parts_of_slope(slope, size_of(feature), taps)
    seen = _deinterlace(feature, taps.rate, plan.before, plan.places).to(parts.dtype)
    like = parts.new_empty(()).expand(slope.shape[1], feature.shape[1] // groups, *taps.kernel)
    return _backward(parts, seen, like, plan.padding, groups, (False, True))[1].to(slope.dtype)


@dataclass(frozen=True)
class _Plan:
    """How a map is split.

    Attributes:
        before: Zeros before its first row and column.
        places: Height and width of every part, with zeros behind.
        padding: Padding of the ordinary convolution.
        results: Height and width of what it gives.
    """

    before: Pair
    places: Pair
    padding: Pair
    results: Pair


def _plan(taps: Taps, size: Size) -> _Plan:
    """Split so that a padding of whole rates is left to the ordinary convolution, whose maps are smaller then."""
    before, places, padding, results = [], [], [], []
    for axis, result in enumerate(taps.size_of_result(size)):
        rate, kernel = taps.rate[axis], taps.kernel[axis]
        rates, rest = divmod(taps.padding[axis], rate)
        needed = -(-result // rate) + kernel - 1 - 2 * rates  # so that every result has its place
        count = max(-(-(size[axis] + rest) // rate), needed, 1)
        before.append(rest)
        places.append(count)
        padding.append(rates)
        results.append(count + 2 * rates - kernel + 1)
    return _Plan(*((values[0], values[1]) for values in (before, places, padding, results)))


def _parts_of_slope(slope: Tensor, size: Size, taps: Taps) -> tuple[_Plan, Tensor]:
    plan = _plan(Taps(taps.kernel, taps.rate, padding=taps.padding), size)
    parts = _deinterlace(spread(slope, taps.stride), taps.rate, (0, 0), plan.results).to(computed_in(slope))
    return plan, parts


def _deinterlace(feature: Tensor, rate: Pair, before: Pair, places: Pair) -> Tensor:
    """Split B×C×h×w into the parts of every rate-th row and column: (r·r·B)×C×m×n, channels last."""
    (rows, columns), (height, width) = rate, size_of(feature)
    batch, channels = feature.shape[:2]
    bottom = rows * places[0] - before[0] - height
    right = columns * places[1] - before[1] - width
    padded = F.pad(feature.permute(0, 2, 3, 1), (0, 0, before[1], right, before[0], bottom))
    split = padded.reshape(batch, places[0], rows, places[1], columns, channels)
    parts = split.permute(2, 4, 0, 1, 3, 5).reshape(-1, places[0], places[1], channels)
    return parts.permute(0, 3, 1, 2)


def _interleave(parts: Tensor, rate: Pair, before: Pair, size: Size) -> Tensor:
    """The inverse: (r·r·B)×C×m×n to B×C×h×w, without what was added."""
    rows, columns = rate
    count, channels, height, width = parts.shape
    split = parts.permute(0, 2, 3, 1).reshape(rows, columns, -1, height, width, channels)
    joined = split.permute(2, 3, 0, 4, 1, 5).reshape(
        count // (rows * columns), height * rows, width * columns, channels
    )
    cut = joined[:, before[0] : before[0] + size[0], before[1] : before[1] + size[1]]
    return cut.permute(0, 3, 1, 2)


def _backward(
    slope: Tensor, feature: Tensor, weight: Tensor, padding: Pair, groups: int, wanted: tuple[bool, bool]
) -> tuple[Tensor, Tensor]:
    gradients: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
        slope, feature, weight, None, [1, 1], list(padding), [1, 1], False, [0, 0], groups, [*wanted, False]
    )
    return gradients[0], gradients[1]
