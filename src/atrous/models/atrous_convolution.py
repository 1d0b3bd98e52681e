"""Atrous convolution: an ordinary one whose taps are a number of pixels apart (DeepLabv1 §3.1)."""

from __future__ import annotations

from torch import nn


def set_rate(convolution: nn.Module, rate: int) -> None:
    """Set the atrous rate of a convolution and the padding that keeps a map's size.

    An even kernel at an odd rate reaches one pixel further to the right and below than to the left and above; there
    the map loses one row and one column, and the caller pads the one side.

    Args:
        convolution: A layer of stride 1; its weights stay as they are.
        rate: Distance between neighboring taps, in pixels of the map.
    """
    assert isinstance(convolution, nn.Conv2d)
    convolution.dilation = (rate, rate)
    height, width = convolution.kernel_size
    convolution.padding = ((height - 1) * rate // 2, (width - 1) * rate // 2)


def rate_at(rate: int, output_stride: int, *, given_at: int) -> int:
    """The rate with the same reach in the image as a given rate at another output stride; at least 1.

    Args:
        rate: Atrous rate at output stride ``given_at``.
        output_stride: Output stride to use it at.
        given_at: 8 in DeepLabv1 and v2, 16 from v3 on.
    """
    return max(1, rate * given_at // output_stride)
