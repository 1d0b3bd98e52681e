"""Atrous convolution as a function, computed by the fastest right way, with gradients of every order.

A convolution is linear in the map and in the filters. So each of its three passes (result, input gradient, weight
gradient) has the other two as its derivatives.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from atrous.autocast import without_autocast
from atrous.geometry import Size, size_of
from atrous.models.atrous_convolution import compiled, deinterlaced, holes, products, pytorch
from atrous.models.atrous_convolution.processor import BF16, WIDE_VECTORS, computed_in
from atrous.models.atrous_convolution.rule import Case, Way, Ways, choose
from atrous.models.atrous_convolution.taps import Taps


class _Passes(Protocol):
    """The three passes of a convolution, which each module of a way has."""

    def forward(self, feature: Tensor, weight: Tensor, bias: Tensor | None, taps: Taps, groups: int) -> Tensor: ...

    def input_gradient(self, slope: Tensor, weight: Tensor, size: Size, taps: Taps, groups: int) -> Tensor: ...

    def weight_gradient(self, slope: Tensor, feature: Tensor, taps: Taps, groups: int) -> Tensor: ...


_PASSES: dict[Way, _Passes] = {
    Way.HOLES: holes,
    Way.DEINTERLACED: deinterlaced,
    Way.COMPILED: compiled,
    Way.PRODUCTS: products,
    Way.TORCH: pytorch,
}


def atrous_convolution(
    feature: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    taps: Taps,
    groups: int = 1,
    way: str = "auto",
) -> Tensor:
    """Convolve, as ``F.conv2d`` does, but right and fast forward and backward.

    Under autocast it computes in autocast's precision. While a network is exported or traced it is ``F.conv2d``, so
    that nothing of ours is in the exported graph.

    Args:
        feature: Map B×C×h×w.
        weight: Filters O×(C/groups)×k×k.
        bias: O numbers, or ``None``.
        taps: Geometry.
        groups: Number of groups; C for a depthwise layer.
        way: ``auto`` to choose by the tables of ``rule.py``, or one of ``WAYS``.

    Returns:
        B×O×h'×w', with channels last where the map, or for PyTorch's own forward pass the filters, have them last.
    """
    precision = _autocast_precision(feature)
    if precision is not None:
        feature, weight = feature.to(precision), weight.to(precision)
        bias = None if bias is None else bias.to(precision)
    ways = _ways(feature, weight, taps, groups, way)
    if set(ways) == {Way.TORCH}:
        return pytorch.forward(feature, weight, bias, taps, groups)
    learns = torch.is_grad_enabled() and (feature.requires_grad or weight.requires_grad)
    if not learns and ways.forward in (Way.TORCH, Way.HOLES) and computed_in(feature, taps) == feature.dtype:
        return pytorch.forward(feature, weight, bias, taps, groups)
    result: Tensor = _Convolution.apply(feature, weight, bias, taps, groups, ways)
    return result


def _autocast_precision(feature: Tensor) -> torch.dtype | None:
    device = feature.device.type
    if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
        return None
    return torch.get_autocast_dtype(device) if feature.dtype in (torch.float32, torch.bfloat16, torch.float16) else None


def _ways(feature: Tensor, weight: Tensor, taps: Taps, groups: int, way: str) -> Ways:
    if torch.compiler.is_exporting() or torch._C._get_tracing_state() is not None:
        return Ways(Way.TORCH, Way.TORCH, Way.TORCH)
    depthwise = groups == feature.shape[1] > 1
    one_filter = depthwise and weight.shape[0] == groups
    case = Case(
        layer="depthwise" if depthwise else "full" if groups == 1 else "grouped",
        taps=taps,
        size=size_of(feature),
        inputs=weight.shape[1],
        outputs=weight.shape[0],
        precision=feature.dtype,
        device=feature.device.type,
        wide_vectors=WIDE_VECTORS,
        bf16=BF16,
        compiled=one_filter and compiled.can_compute(feature),
    )
    return choose(case, way)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(feature: Tensor, weight: Tensor, bias: Tensor | None, taps: Taps, groups: int, ways: Ways) -> Tensor:
        with without_autocast(feature.device.type):
            return _PASSES[ways.forward].forward(feature, weight, bias, taps, groups)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        feature, weight, _, ctx.taps, ctx.groups, ctx.ways = inputs
        ctx.save_for_backward(feature, weight)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        feature, weight = ctx.saved_tensors
        how = (ctx.taps, ctx.groups, ctx.ways)
        return (
            _InputGradient.apply(slope, weight, size_of(feature), *how) if ctx.needs_input_grad[0] else None,
            _WeightGradient.apply(slope, feature, *how) if ctx.needs_input_grad[1] else None,
            slope.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None,
            None,
            None,
            None,
        )


class _InputGradient(torch.autograd.Function):
    @staticmethod
    def forward(slope: Tensor, weight: Tensor, size: Size, taps: Taps, groups: int, ways: Ways) -> Tensor:
        with without_autocast(slope.device.type):
            return _PASSES[ways.input_gradient].input_gradient(slope, weight, size, taps, groups)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        slope, weight, _, ctx.taps, ctx.groups, ctx.ways = inputs
        ctx.save_for_backward(slope, weight)

    @staticmethod
    def backward(ctx: Any, change: Tensor) -> tuple[Tensor | None, ...]:
        slope, weight = ctx.saved_tensors
        how = (ctx.taps, ctx.groups, ctx.ways)
        return (
            _Convolution.apply(change, weight, None, *how) if ctx.needs_input_grad[0] else None,
            _WeightGradient.apply(slope, change, *how) if ctx.needs_input_grad[1] else None,
            None,
            None,
            None,
            None,
        )


class _WeightGradient(torch.autograd.Function):
    @staticmethod
    def forward(slope: Tensor, feature: Tensor, taps: Taps, groups: int, ways: Ways) -> Tensor:
        with without_autocast(slope.device.type):
            return _PASSES[ways.weight_gradient].weight_gradient(slope, feature, taps, groups)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        slope, feature, ctx.taps, ctx.groups, ctx.ways = inputs
        ctx.save_for_backward(slope, feature)

    @staticmethod
    def backward(ctx: Any, change: Tensor) -> tuple[Tensor | None, ...]:
        slope, feature = ctx.saved_tensors
        how = (ctx.taps, ctx.groups, ctx.ways)
        return (
            _Convolution.apply(feature, change, None, *how) if ctx.needs_input_grad[0] else None,
            _InputGradient.apply(slope, change, size_of(feature), *how) if ctx.needs_input_grad[1] else None,
            None,
            None,
            None,
        )
