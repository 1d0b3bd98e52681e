"""Batch norm and the clamp after it as one function, with gradients of every order."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from atrous.models.batch_norm import kernel
from atrous.models.batch_norm.kernel import Bounds
from atrous.native import PRECISIONS


def clamped_batch_norm(
    feature: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running: tuple[Tensor, Tensor] | None,
    *,
    learns: bool,
    momentum: float,
    eps: float,
    bounds: Bounds,
) -> Tensor:
    """``clamp(F.batch_norm(feature))``, by the kernel where it is right and by PyTorch everywhere else.

    Args:
        feature: B×C×h×w.
        weight: γ, C numbers, or ``None``.
        bias: β, C numbers, or ``None``.
        running: Running mean and variance; ``learns`` moves them in place.
        learns: Normalize with the statistics of the batch, not with the running ones.
        momentum: Weight of the batch in the running statistics.
        eps: Added to the variance.
        bounds: What the result is clamped to.

    Returns:
        B×C×h×w in the map's precision.

    Raises:
        ValueError: Statistics are to be taken of a single value.
    """
    vectors = (weight, bias, *(running or ()))
    several = feature.numel() > feature.shape[1]
    # with nothing to join and no gradient it is one pass either way, and PyTorch's begins sooner
    alone = not learns and bounds == Bounds() and not torch.is_grad_enabled()
    if alone or not _is_for_kernel(feature, vectors) or (learns and not several) or (not learns and running is None):
        return _by_pytorch(feature, weight, bias, running, learns=learns, momentum=momentum, eps=eps, bounds=bounds)
    result: Tensor
    if learns:
        result = _BatchNorm.apply(feature, weight, bias, running, momentum, eps, bounds)
        return result
    if torch.is_grad_enabled() and any(vector is not None and vector.requires_grad for vector in (weight, bias)):
        return _by_pytorch(feature, weight, bias, running, learns=False, momentum=momentum, eps=eps, bounds=bounds)
    assert running is not None
    with torch.no_grad():
        inverse = (running[1] + eps).rsqrt()
        scale = inverse if weight is None else inverse * weight
        shift = -running[0] * scale if bias is None else bias - running[0] * scale
    result = _Frozen.apply(feature, scale, shift, bounds)
    return result


def _is_for_kernel(feature: Tensor, vectors: tuple[Tensor | None, ...]) -> bool:
    """Whether a map lies as the kernel reads it, and nobody but autograd looks at what is computed."""
    return (
        not torch.compiler.is_compiling()
        and torch._C._get_tracing_state() is None
        and not torch._C._are_functorch_transforms_active()
        and feature.device.type == "cpu"
        and feature.dtype in PRECISIONS
        and feature.dim() == 4
        and feature.is_contiguous(memory_format=torch.channels_last)
        and feature.numel() > 0
        and type(feature) is Tensor
        and all(vector is None or vector.dtype == torch.float32 for vector in vectors)
        and kernel.library() is not None
    )


def _by_pytorch(
    feature: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running: tuple[Tensor, Tensor] | None,
    *,
    learns: bool,
    momentum: float,
    eps: float,
    bounds: Bounds,
) -> Tensor:
    mean, variance = running or (None, None)
    result = F.batch_norm(feature, mean, variance, weight, bias, learns, momentum, eps)
    if bounds == (0, float("inf")):
        return F.relu_(result)
    return result if bounds == Bounds() else F.hardtanh_(result, *bounds)


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        feature: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running: tuple[Tensor, Tensor] | None,
        momentum: float,
        eps: float,
        bounds: Bounds,
    ) -> Tensor:
        result, ctx.statistics = kernel.learn(feature, weight, bias, running, momentum=momentum, eps=eps, bounds=bounds)
        ctx.save_for_backward(feature, weight, bias)
        ctx.eps, ctx.bounds = eps, bounds
        return result

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        feature, weight, bias = ctx.saved_tensors
        needed = ctx.needs_input_grad[:3]
        if torch.is_grad_enabled():  # derivatives of this derivative are PyTorch's
            result = _by_pytorch(feature, weight, bias, None, learns=True, momentum=0.0, eps=ctx.eps, bounds=ctx.bounds)
            wanted = [each for each, need in zip((feature, weight, bias), needed, strict=True) if need]
            found = iter(torch.autograd.grad(result, wanted, slope, create_graph=True))
            gradients: list[Tensor | None] = [next(found) if need else None for need in needed]
        else:
            every = kernel.differentiate(slope, feature, ctx.statistics, ctx.bounds, of_feature=needed[0])
            gradients = [each if need else None for each, need in zip(every, needed, strict=True)]
        return (*gradients, None, None, None, None)


class _Frozen(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, feature: Tensor, scale: Tensor, shift: Tensor, bounds: Bounds) -> Tensor:
        result = kernel.normalize(feature, scale, shift, bounds)
        # what is not clamped may be changed in place, as a shortcut is added to it
        ctx.save_for_backward(scale, None if bounds == Bounds() else result)
        ctx.bounds = bounds
        return result

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        scale, result = ctx.saved_tensors
        if torch.is_grad_enabled():  # linear in the slope, with PyTorch's operators
            passed = 1 if result is None else (result > ctx.bounds.low) & (result < ctx.bounds.high)
            gradient = slope * passed * scale[:, None, None].to(slope.dtype)
        elif result is None:
            gradient = kernel.normalize(slope, scale, torch.zeros_like(scale), Bounds())
        else:
            gradient = kernel.differentiate_normalized(slope, result, scale, ctx.bounds)
        return gradient, None, None, None
