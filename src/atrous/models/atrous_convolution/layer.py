"""Layers of a network that compute atrous convolutions, and their rates."""

from __future__ import annotations

from typing import TypeGuard

from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from atrous.errors import AtrousError
from atrous.geometry import size_of
from atrous.models.atrous_convolution import compiled
from atrous.models.atrous_convolution.convolution import atrous_convolution
from atrous.models.atrous_convolution.rule import WAYS, Way
from atrous.models.atrous_convolution.taps import Taps, pad_or_cut


class AtrousConv2d(nn.Conv2d):
    """``nn.Conv2d``, computed by ``atrous_convolution``.

    Attributes:
        way: One of ``WAYS``.
    """

    way: str = "auto"

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.padding_mode != "zeros" or isinstance(self.padding, str) or input.dim() != 4:
            result: Tensor = super()._conv_forward(input, weight, bias)
            return result
        return atrous_convolution(input, weight, bias, taps=_taps(self), groups=self.groups, way=self.way)


class AtrousConv2dSame(Conv2dSame):
    """timm's convolution with TensorFlow's padding, computed by ``atrous_convolution``.

    The map is copied into a larger one only where the two sides differ; timm copies it always.

    Attributes:
        way: One of ``WAYS``.
    """

    way: str = "auto"

    def forward(self, x: Tensor) -> Tensor:
        """Convolve B×C×h×w."""
        kernel, rate, stride = _pair(self.kernel_size), _pair(self.dilation), _pair(self.stride)
        rows, columns = map(_same_padding, size_of(x), kernel, rate, stride)
        x = pad_or_cut(x, (0, columns % 2, 0, rows % 2))
        taps = Taps(kernel, rate, stride, padding=(rows // 2, columns // 2))
        return atrous_convolution(x, self.weight, self.bias, taps=taps, groups=self.groups, way=self.way)


_OURS = {nn.Conv2d: AtrousConv2d, Conv2dSame: AtrousConv2dSame}


def compute_by(network: nn.Module, way: str = "auto") -> None:
    """Let all convolutions of a network be computed by ``atrous_convolution``.

    The layers stay the same objects, with the same names, tensors and hooks; only their class changes.

    Args:
        network: The network.
        way: One of ``WAYS``.

    Raises:
        AtrousError: There is no such way, or the kernel cannot be compiled here.
    """
    if way not in WAYS:
        raise AtrousError(f"task.atrous_convolution={way!r} is unknown; choose one of {', '.join(WAYS)}")
    if way == Way.COMPILED and not compiled.is_available():
        raise AtrousError(
            "task.atrous_convolution=compiled needs a C++ compiler, and none was found or it failed: install g++, or "
            "set task.atrous_convolution=auto"
        )
    for layer in network.modules():
        ours = _OURS.get(type(layer))  # subclasses compute something else
        if ours is not None:
            layer.__class__ = ours
        if isinstance(layer, AtrousConv2d | AtrousConv2dSame):
            layer.way = way


def is_depthwise(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether a layer is a convolution whose filters look at one input channel each, of several (v3+ §3.1)."""
    return isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1


def has_atrous_convolution(network: nn.Module) -> bool:
    """Whether a network has a convolution with a rate above 1."""
    return any(isinstance(layer, nn.Conv2d) and max(layer.dilation) > 1 for layer in network.modules())


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


def _taps(layer: nn.Conv2d) -> Taps:
    assert not isinstance(layer.padding, str)
    return Taps(_pair(layer.kernel_size), _pair(layer.dilation), _pair(layer.stride), _pair(layer.padding))


def _same_padding(side: int, kernel: int, rate: int, stride: int) -> int:
    """Zeros before and after a side together, in whole numbers alone, which stay exact where a side is a symbol."""
    results = (side + stride - 1) // stride
    return max((results - 1) * stride + (kernel - 1) * rate + 1 - side, 0)


def _pair(values: tuple[int, ...]) -> tuple[int, int]:
    rows, columns = values
    return rows, columns
