"""Output stride as a property of a built network.

Every strided or spatially extended layer is described once by its native geometry and by the stride of its *input* in
the undilated network. From these its stride and atrous rate follow for any output stride, in any order, as often as
needed: a layer whose input has native stride ``s`` works at ``min(s, OS)`` and makes up for the rest with the rate
``s / min(s, OS)``. The layer that loses its stride thereby keeps the rate of the layers before it, as in timm and in
the authors' Xception (core/xception.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.blur_pool import BlurPool2d
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.pool2d_same import AvgPool2dSame, MaxPool2dSame
from timm.layers.std_conv import ScaledStdConv2dSame, StdConv2dSame
from torch import Tensor, nn

from atrous.errors import AtrousError
from atrous.models.backbones.atrous_pool import AtrousAvgPool2d

OUTPUT_STRIDES = (8, 16, 32)
_SPATIAL = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, BlurPool2d)
_PADS_BY_ITSELF = (Conv2dSame, StdConv2dSame, ScaledStdConv2dSame, MaxPool2dSame, AvgPool2dSame)
_PROBE_SIZE = 128


@dataclass(frozen=True)
class SpatialLayer:
    """Native geometry of a convolution or pooling, and where in the network it stands.

    Attributes:
        name: Qualified name in the network.
        module: The layer.
        input_stride: Native stride of its input.
        kernel: Kernel height and width.
        stride: Native stride.
        padding: Native zero padding before the first row and column.
        dilation: Native atrous rate, or a factor on those that follow from the output stride.
        rate: Atrous rate whatever the output stride, of hand-made schedules; ``None`` to follow the output stride.
        takes_rate_after: Whether the layer has the rate of the layers after it, instead of that of the ones before it.
    """

    name: str
    module: nn.Module
    input_stride: int
    kernel: tuple[int, int]
    stride: int
    padding: tuple[int, int]
    dilation: int
    rate: int | None = None
    takes_rate_after: bool = False

    def apply(self, output_stride: int) -> None:
        """Give the layer the stride and rate that it has at an output stride."""
        held = min(self.input_stride, output_stride)
        stride = min(self.input_stride * self.stride, output_stride) // held
        counted = self.input_stride * self.stride if self.takes_rate_after else self.input_stride
        rate = counted // held if self.rate is None else self.rate
        module = self.module
        if isinstance(module, BlurPool2d | MaxPool2dSame | AvgPool2dSame):
            if stride != self.stride or rate > 1:
                raise AtrousError(
                    f"output stride {output_stride} is impossible for this backbone: its layer {self.name!r} "
                    f"({type(module).__name__}) cannot be dilated; use a larger output stride or another backbone"
                )
            return
        before = (self.padding[0] * rate, self.padding[1] * rate)
        extent = tuple((k - 1) * self.dilation * rate for k in self.kernel)
        after = (extent[0] - before[0], extent[1] - before[1]) if stride != self.stride else before
        _set(module, "stride", stride)
        _set(module, "dilation", self.dilation * rate)
        if isinstance(module, _PADS_BY_ITSELF) or isinstance(getattr(module, "padding", 0), str):
            return
        margins = None if before == after else (before[1], after[1], before[0], after[0])
        _set_pair(module, "padding", before if margins is None else (0, 0))
        if isinstance(module, AtrousAvgPool2d):
            module.margins = margins
        else:
            _padder_of(module).margins = margins


def find_spatial_layers(network: nn.Module) -> list[SpatialLayer]:
    """Describe every layer with a spatial extent by running the undilated network once on a small image.

    Average poolings are replaced by ``AtrousAvgPool2d`` on the way.

    Args:
        network: A timm model at its native stride.

    Returns:
        The layers in the order of execution.
    """
    for name, module in list(network.named_modules()):
        if type(module) is nn.AvgPool2d:
            network.set_submodule(name, AtrousAvgPool2d.like(module))
    layers: list[SpatialLayer] = []
    handles = []
    for name, module in network.named_modules():
        if isinstance(module, _SPATIAL):

            def describe(module: nn.Module, inputs: tuple[Tensor, ...], name: str = name) -> None:
                layers.append(_describe(name, module, native_stride(inputs[0])))

            handles.append(module.register_forward_pre_hook(describe))
    try:
        probe(network)
    finally:
        for handle in handles:
            handle.remove()
    return [layer for layer in layers if layer.stride > 1 or max(layer.kernel) > 1]


def native_stride(feature: Tensor) -> int:
    """Stride of a feature map B×C×h×w that was computed from the probe image, rounded to a power of two."""
    return 1 << max(0, round(math.log2(_PROBE_SIZE / feature.shape[-2])))


def probe(network: Any, *, extra: int = 0) -> None:
    """Run the network once on a blank image in evaluation mode, without gradients, and restore its modes.

    Args:
        network: A timm model.
        extra: Pixels by which the image is wider and higher than 128.
    """
    parameter = next(network.parameters())
    size = _PROBE_SIZE + extra
    image = torch.zeros(1, 3, size, size, device=parameter.device, dtype=parameter.dtype)
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.no_grad():
            network.forward_features(image)
    finally:
        for module, training in modes:
            module.training = training


class _Padder:
    """Pads a layer's input where the two sides differ, which a convolution's ``padding`` cannot express."""

    def __init__(self, fill: float) -> None:
        self.fill = fill
        self.margins: tuple[int, int, int, int] | None = None

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if self.margins is None:
            return None
        return (F.pad(inputs[0], self.margins, value=self.fill), *inputs[1:])


def _padder_of(module: nn.Module) -> _Padder:
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, _Padder):
            return hook
    padder = _Padder(-math.inf if isinstance(module, nn.MaxPool2d) else 0.0)
    module.register_forward_pre_hook(padder)
    return padder


def _describe(name: str, module: nn.Module, input_stride: int) -> SpatialLayer:
    if isinstance(module, BlurPool2d):
        return SpatialLayer(name, module, input_stride, (module.filt_size,) * 2, module.stride, (0, 0), 1)
    padding = getattr(module, "padding", 0)
    return SpatialLayer(
        name=name,
        module=module,
        input_stride=input_stride,
        kernel=_pair(module.kernel_size),
        stride=_pair(module.stride)[0],
        padding=(0, 0) if isinstance(padding, str) else _pair(padding),
        dilation=_pair(getattr(module, "dilation", 1))[0],
    )


def _pair(value: object) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    first, second = _integers(value)
    return first, second


def _integers(value: object) -> Iterator[int]:
    if not isinstance(value, tuple | list):
        raise TypeError(f"expected an integer or a pair of integers, got {value!r}")
    yield from (int(v) for v in value)


def _set(module: nn.Module, name: str, value: int) -> None:
    _set_pair(module, name, (value, value))


def _set_pair(module: nn.Module, name: str, value: tuple[int, int]) -> None:
    """Keep the attribute's own form: convolutions hold pairs, poolings mostly integers."""
    present = getattr(module, name)
    setattr(module, name, value[0] if isinstance(present, int) and value[0] == value[1] else value)
