"""A compiled kernel for depthwise layers on the CPU: ``depthwise.cpp``."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from atrous.geometry import Size, size_of
from atrous.models.atrous_convolution.taps import Taps, flipped, memory_format_of, spread
from atrous.native import PRECISIONS, load_native, pointers

_loaded = False


@functools.cache
def kernel() -> ctypes.CDLL | None:
    """The kernel, built when it is first asked for; ``None`` where it cannot be built."""
    global _loaded
    library = load_native(Path(__file__).with_name("depthwise.cpp"))
    _loaded = library is not None
    return library


def is_available() -> bool:
    """Whether the kernel can be used; while PyTorch compiles, whether it has been used before."""
    return _loaded if torch.compiler.is_compiling() else kernel() is not None


def can_compute(feature: Tensor) -> bool:
    """Whether the kernel is for a depthwise layer's map: float32 or bf16, on the CPU."""
    return feature.device.type == "cpu" and feature.dtype in PRECISIONS and is_available()


def forward(feature: Tensor, weight: Tensor, bias: Tensor | None, taps: Taps, groups: int) -> Tensor:
    """Convolve B×C×h×w."""
    result = _convolve(feature, weight, bias, taps, taps.size_of_result(size_of(feature)))
    return result.contiguous(memory_format=memory_format_of(feature))


def input_gradient(slope: Tensor, weight: Tensor, size: Size, taps: Taps, groups: int) -> Tensor:
    """Gradient of the map, B×C×h×w: the convolution of the result's gradient with the flipped kernel."""
    turned = Taps(
        taps.kernel, taps.rate, padding=(taps.reach[0] - taps.padding[0], taps.reach[1] - taps.padding[1])
    )  # the padding may be negative, or wider after the map than before it: the kernel looks where taps are
    return _convolve(spread(slope, taps.stride), flipped(weight, groups), None, turned, size)


def weight_gradient(slope: Tensor, feature: Tensor, taps: Taps, groups: int) -> Tensor:
    """Gradient of the filters, C×1×k×k."""
    gradient: Tensor = torch.ops.atrous.depthwise_weight_gradient(slope, feature, *_lists(taps))
    return gradient.to(slope.dtype)


def _convolve(feature: Tensor, weight: Tensor, bias: Tensor | None, taps: Taps, size: Size) -> Tensor:
    filters = weight.to(torch.float32).squeeze(1).permute(1, 2, 0).contiguous()  # k×k×C
    result: Tensor = torch.ops.atrous.depthwise(
        feature, filters, None if bias is None else bias.to(torch.float32), *_lists(taps)[1:], list(size)
    )
    return result


def _lists(taps: Taps) -> tuple[list[int], list[int], list[int], list[int]]:
    return list(taps.kernel), list(taps.rate), list(taps.stride), list(taps.padding)


class _Shape(ctypes.Structure):
    """Matches the structure in ``depthwise.cpp``."""

    _fields_: ClassVar = [
        (name, ctypes.c_int64)
        for name in (
            *("batch", "channels", "in_rows", "in_columns", "out_rows", "out_columns"),
            *("kernel_rows", "kernel_columns", "rate_rows", "rate_columns", "stride_rows", "stride_columns"),
            *("padding_rows", "padding_columns", "threads"),
        )
    ]


def _call(function: str, precision: torch.dtype, tensors: list[Tensor | None], *shape: int) -> None:
    library = kernel()
    assert library is not None
    numbers = ctypes.byref(_Shape(*shape, torch.get_num_threads()))
    library[f"{function}_{PRECISIONS[precision]}"](*pointers(tensors), numbers)


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last)


@torch.library.custom_op(
    "atrous::depthwise",
    mutates_args=(),
    schema="(Tensor feature, Tensor filters, Tensor? bias, int[] rate, int[] stride, int[] padding, SymInt[] size)"
    " -> Tensor",
)
def _depthwise(
    feature: Tensor,
    filters: Tensor,
    bias: Tensor | None,
    rate: list[int],
    stride: list[int],
    padding: list[int],
    size: list[int],
) -> Tensor:
    feature = _channels_last(feature)
    result: Tensor = _empty_result(feature, filters, bias, rate, stride, padding, size)
    kernel_size = filters.shape[:2]
    tensors = [feature, filters.contiguous(), bias, result]
    batch, channels, *extent = feature.shape
    _call("convolve", feature.dtype, tensors, batch, channels, *extent, *size, *kernel_size, *rate, *stride, *padding)
    return result


@_depthwise.register_fake
def _empty_result(
    feature: Tensor,
    filters: Tensor,
    bias: Tensor | None,
    rate: list[int],
    stride: list[int],
    padding: list[int],
    size: list[int],
) -> Tensor:
    return torch.empty(
        (*feature.shape[:2], *size), dtype=feature.dtype, device=feature.device, memory_format=torch.channels_last
    )


@torch.library.custom_op(
    "atrous::depthwise_weight_gradient",
    mutates_args=(),
    schema="(Tensor slope, Tensor feature, int[] kernel, int[] rate, int[] stride, int[] padding) -> Tensor",
)
def _depthwise_weight_gradient(
    slope: Tensor, feature: Tensor, kernel: list[int], rate: list[int], stride: list[int], padding: list[int]
) -> Tensor:
    slope, feature = _channels_last(slope), _channels_last(feature)
    batch, channels, *extent = feature.shape
    sums = torch.empty(batch, *kernel, channels)  # one gradient of the filters for each image
    shape = (batch, channels, *extent, *slope.shape[-2:], *kernel, *rate, *stride, *padding)
    _call("correlate", feature.dtype, [feature, slope, sums], *shape)
    return sums.sum(0).permute(2, 0, 1).unsqueeze(1).contiguous()


@_depthwise_weight_gradient.register_fake
def _empty_gradient(
    slope: Tensor, feature: Tensor, kernel: list[int], rate: list[int], stride: list[int], padding: list[int]
) -> Tensor:
    return torch.empty((feature.shape[1], 1, *kernel), dtype=torch.float32, device=feature.device)
