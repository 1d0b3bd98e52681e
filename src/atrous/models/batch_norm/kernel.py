"""A compiled kernel for batch norm and the clamp after it on the CPU: ``batch_norm.cpp``."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from atrous.native import PRECISIONS, load_native, pointers

_VALUES_OF_A_PART = 1 << 16
"""Values that one thread sums up at a time; they fit in its second cache."""
_PIXELS_OF_A_PART = 512
"""At most so many values are added in float32 one after the other, for the sake of precision."""


class Bounds(NamedTuple):
    """What a normalized value is clamped to: ``[0, ∞)`` for a ReLU, ``[0, 6]`` for a ReLU6."""

    low: float = float("-inf")
    high: float = float("inf")


@functools.cache
def library() -> ctypes.CDLL | None:
    """The kernel, built when it is first asked for; ``None`` where it cannot be built."""
    return load_native(Path(__file__).with_name("batch_norm.cpp"))


class _Norm(ctypes.Structure):
    """Matches the structure in ``batch_norm.cpp``."""

    _fields_: ClassVar = [
        *((name, ctypes.c_int64) for name in ("pixels", "channels", "part", "threads")),
        *((name, ctypes.c_float) for name in ("eps", "momentum", "low", "high")),
    ]


def learn(
    feature: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running: tuple[Tensor, Tensor] | None,
    *,
    momentum: float,
    eps: float,
    bounds: Bounds,
) -> tuple[Tensor, Tensor]:
    """Normalize with the statistics of the batch and move the running ones.

    Args:
        feature: B×C×h×w, float32 or bf16, on the CPU, at least two values a channel.
        weight: γ, C numbers in float32, or ``None`` for 1.
        bias: β, or ``None`` for 0.
        running: Running mean and variance, changed in place; ``None`` if there are none.
        momentum: Weight of the batch in them.
        eps: Added to the variance.
        bounds: What the result is clamped to.

    Returns:
        The result, and what ``differentiate`` needs of it: 4×C for mean, 1/σ, scale and shift.
    """
    feature = feature.contiguous(memory_format=torch.channels_last)
    channels = feature.shape[1]
    result, statistics = torch.empty_like(feature), torch.empty(4, channels)
    norm = _norm(feature, bounds, eps=eps, momentum=momentum)
    mean, variance = running or (None, None)
    _call("learn", [feature, weight, bias, mean, variance, result, statistics, _sums(norm)], feature.dtype, norm)
    return result, statistics


def differentiate(
    slope: Tensor, feature: Tensor, statistics: Tensor, bounds: Bounds, *, of_feature: bool
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Gradients of map, γ and β from the gradient of what ``learn`` returned; that of the map only if asked for."""
    feature, slope = (each.contiguous(memory_format=torch.channels_last) for each in (feature, slope))
    result = torch.empty_like(feature) if of_feature else None
    of_weight, of_bias = torch.empty(2, feature.shape[1])
    norm = _norm(feature, bounds)
    tensors = [feature, slope, statistics, result, of_weight, of_bias, _sums(norm)]
    _call("differentiate", tensors, feature.dtype, norm)
    return result, of_weight, of_bias


def normalize(feature: Tensor, scale: Tensor, shift: Tensor, bounds: Bounds) -> Tensor:
    """``clamp(scale · feature + shift)``, B×C×h×w; scale and shift are C numbers in float32."""
    feature = feature.contiguous(memory_format=torch.channels_last)
    result = torch.empty_like(feature)
    _call("normalize", [feature, scale, shift, result], feature.dtype, _norm(feature, bounds))
    return result


def differentiate_normalized(slope: Tensor, result: Tensor, scale: Tensor, bounds: Bounds) -> Tensor:
    """Gradient of the map from the gradient of what ``normalize`` returned."""
    slope = slope.contiguous(memory_format=torch.channels_last)
    gradient = torch.empty_like(result)
    _call("differentiate_frozen", [result, slope, scale, gradient], result.dtype, _norm(result, bounds))
    return gradient


def _norm(feature: Tensor, bounds: Bounds, *, eps: float = 0.0, momentum: float = 0.0) -> _Norm:
    batch, channels, height, width = feature.shape
    part = min(max(1, _VALUES_OF_A_PART // channels), _PIXELS_OF_A_PART)
    return _Norm(batch * height * width, channels, part, torch.get_num_threads(), eps, momentum, *bounds)


def _sums(norm: _Norm) -> Tensor:
    """Room for two sums of every channel in every part."""
    return torch.empty(-(-norm.pixels // norm.part), 2, norm.channels)


def _call(function: str, tensors: list[Tensor | None], precision: torch.dtype, norm: _Norm) -> None:
    kernel = library()
    assert kernel is not None
    kernel[f"{function}_{PRECISIONS[precision]}"](*pointers(tensors), ctypes.byref(norm))
