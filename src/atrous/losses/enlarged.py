"""The loss of logits that are enlarged from scores, some rows at a time, so that they never exist as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from atrous.autocast import without_autocast
from atrous.errors import AtrousError
from atrous.geometry import Grid, Size, linear_weights, pixels_of, size_of
from atrous.losses.cross_entropy import MeanOverPixels
from atrous.losses.loss import at_least_float32, mean_of_counted

_PART = {"cpu": 2**24}
_PART_ELSEWHERE = 2**27
"""Bytes of logits at a time: few enough to stay in a processor's outer cache, or enough to keep a GPU busy."""


def loss_of_enlarged(loss: MeanOverPixels, scores: Tensor, target: Tensor, *, grid: Grid, size: Size) -> Tensor:
    """Compute ``loss(grid.resize(scores, size)[..., :H, :W], target)`` without a tensor of B×C×H×W.

    The gradient is computed along with the loss, part by part, and kept at the scores' resolution. It can be
    differentiated once.

    Args:
        loss: A mean over pixels.
        scores: B×C×h×w, of any precision; logits have at least float32.
        target: B×H×W class ids of any integer type.
        grid: Grid on which the scores lie.
        size: Height and width of the extended image, at least H and W.

    Returns:
        A scalar; the loss and its gradient differ by rounding alone.
    """
    total: Tensor = _Total.apply(scores, target, loss, grid, size)
    return mean_of_counted(total, loss.counted(target))


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, target: Tensor, loss: MeanOverPixels, grid: Grid, size: Size) -> Tensor:
        learns = ctx.needs_input_grad[0]
        exact = at_least_float32(scores).contiguous()
        total = exact.new_zeros(())
        gradient = torch.zeros_like(exact) if learns else None
        with without_autocast(scores.device.type):
            for rows, seen, weights in _parts(exact, size_of(target)[0], grid, size):
                with torch.set_grad_enabled(learns):
                    part = exact[:, :, seen].detach().requires_grad_(learns)  # B×C×m×w, m neighboring rows
                    wide = grid.resize_width(part, size[1])[..., : target.shape[-1]]  # B×C×m×W
                    of_rows = loss.total(torch.matmul(weights, wide), target[:, rows])  # n×m: n rows of logits
                total += of_rows.detach()
                if gradient is not None:
                    gradient[:, :, seen] += torch.autograd.grad(of_rows, part)[0]
        if gradient is not None:
            ctx.save_for_backward(gradient.to(scores.dtype), scores)
        return total

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        return _Gradient.apply(slope, *ctx.saved_tensors), None, None, None, None


class _Gradient(torch.autograd.Function):
    """Gradient of the scores; it depends on them, but how is not kept."""

    @staticmethod
    def forward(ctx: Any, slope: Tensor, gradient: Tensor, scores: Tensor) -> Tensor:
        return slope.to(gradient.dtype) * gradient

    @staticmethod
    def backward(ctx: Any, change: Tensor) -> tuple[Tensor | None, ...]:
        raise AtrousError("the loss of enlarged scores can be differentiated once: for more, enlarge them first")


def _parts(scores: Tensor, height: int, grid: Grid, size: Size) -> Iterator[tuple[slice, slice, Tensor]]:
    """Rows of logits, the rows of scores that they are made from, and the weights n×m of the latter."""
    batch, channels, rows_of_scores, _ = scores.shape
    bytes_of_a_row = batch * channels * size[1] * scores.element_size()
    count = max(1, _PART.get(scores.device.type, _PART_ELSEWHERE) // bytes_of_a_row)
    places = grid.places(pixels_of(size[0]), size[0], rows_of_scores)
    for first in range(0, height, count):
        rows = slice(first, min(height, first + count))
        seen, weights = linear_weights(places[rows])
        yield rows, seen, weights.to(scores)
