"""The operations of a cell, and how a cell's inputs get its size and channels (Auto-DeepLab §3.1)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atrous.geometry import Grid, Size, size_of
from atrous.models.atrous_convolution import set_rate
from atrous.models.nas.genotype import Operation

EPS = 1e-3
"""Small number in the denominator of batch norms, as in the authors' code."""

RATE = 2
"""Rate of the atrous convolutions."""


class Skip(nn.Module):
    """The input as it is; at stride 2 every second feature of it."""

    def __init__(self, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, feature: Tensor) -> Tensor:
        """Map B×C×h×w to itself or half its size."""
        return every(feature, self.stride)


class Zero(nn.Module):
    """Nothing, in the size that the stride leaves."""

    def __init__(self, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, feature: Tensor) -> Tensor:
        """Map B×C×h×w to zeros."""
        return torch.zeros_like(every(feature, self.stride))


def operation(kind: Operation, channels: int, *, stride: int = 1) -> nn.Module:
    """An operation that keeps the channels.

    A separable convolution is two of them, each after a ReLU and before a batch norm. An atrous convolution is a full
    one of rate 2. At stride 2 the first separable one strides, and the atrous one has rate 1 on every second feature,
    which is its rate on the input's grid (TensorFlow DeepLab, core/nas_cell.py).

    Args:
        kind: Which one.
        channels: Channels of input and result.
        stride: 1, or 2 to halve the size.
    """
    if kind is Operation.NONE:
        return Zero(stride)
    if kind is Operation.SKIP:
        return Skip(stride)
    if kind in (Operation.AVERAGE_POOLING, Operation.MAX_POOLING):
        return nn.Sequential(pooling(kind, stride), norm(channels))
    kernel = kernel_of(kind)
    if is_atrous(kind):
        atrous = convolution(channels, channels, kernel)
        set_rate(atrous, rate_of(stride))
        return nn.Sequential(Skip(stride), nn.ReLU(), atrous, norm(channels))
    return nn.Sequential(*_separable(channels, kernel, stride), *_separable(channels, kernel, 1))


def _separable(channels: int, kernel: int, stride: int) -> tuple[nn.Module, ...]:
    depthwise = convolution(channels, channels, kernel, stride=stride, groups=channels)
    return nn.ReLU(), depthwise, convolution(channels, channels, 1), norm(channels)


def is_atrous(kind: Operation) -> bool:
    """Whether it is an atrous convolution."""
    return kind in (Operation.ATROUS_3X3, Operation.ATROUS_5X5)


def kernel_of(kind: Operation) -> int:
    """Side of a convolution's kernel."""
    return 3 if kind in (Operation.SEPARABLE_3X3, Operation.ATROUS_3X3) else 5


def rate_of(stride: int) -> int:
    """Rate of an atrous convolution after every ``stride``-th feature was taken."""
    return RATE // stride


def pooling(kind: Operation, stride: int = 1) -> nn.Module:
    """A 3×3 pooling, of which the average leaves out what lies outside the map."""
    if kind is Operation.MAX_POOLING:
        return nn.MaxPool2d(3, stride=stride, padding=1)
    return nn.AvgPool2d(3, stride=stride, padding=1, count_include_pad=False)


def norm(channels: int) -> nn.BatchNorm2d:
    """A batch norm."""
    return nn.BatchNorm2d(channels, eps=EPS)


def convolution(before: int, after: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution without bias that keeps a map's size, or halves it."""
    layer = nn.Conv2d(before, after, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return layer


def every(feature: Tensor, step: int) -> Tensor:
    """Every ``step``-th feature of both directions: bilinear reduction on a grid of points."""
    return feature if step == 1 else feature[..., ::step, ::step]


def resized(feature: Tensor, size: Size) -> Tensor:
    """A map at the size of another stride, its features on the same places."""
    height, width = size_of(feature)
    if height >= size[0] and width >= size[1]:
        step = 1  # the smallest power of two that is enough, in whole numbers, which may be symbols
        while step * size[0] < height or step * size[1] < width:
            step *= 2
        return every(feature, step)
    return Grid.POINTS.resize(feature, size)


class Projection(nn.Module):
    """A cell's input, resized, at its number of channels: ReLU, 1×1 convolution, batch norm.

    Args:
        before: Channels of the input.
        after: Channels of the cell.
        norm: Called with the channels of the cell; the batch norm.
    """

    def __init__(self, before: int, after: int, *, norm: Callable[[int], nn.Module] = norm) -> None:
        super().__init__()
        self.convolution = convolution(before, after, 1)
        self.norm = norm(after)

    def forward(self, feature: Tensor, size: Size) -> Tensor:
        """Map B×C×h×w to B×D×H×W."""
        # a function, so that no batch norm of another unit takes it over: units may be computed again one by one
        projected: Tensor = self.norm(self.convolution(F.relu(resized(feature, size))))
        return projected
