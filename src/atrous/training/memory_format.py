"""The order in which feature maps lie in memory."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from atrous.training.depthwise import is_depthwise


def lay_channels_last(network: nn.Module) -> None:
    """Lay a network out with channels last, except depthwise atrous convolutions that cannot learn that way.

    On the CPU, in bf16 and with channels last, PyTorch's weight gradient of a depthwise convolution with a rate above 1
    is wrong: with torch 2.14 and AVX-512, on maps wider than 28. With channels first it is correct. So these layers
    compute with channels first there, on maps of every size, as long as their weights learn.
    """
    network.to(memory_format=torch.channels_last)
    for layer in network.modules():
        if is_depthwise(layer):
            # C×1×k×k is the same in both orders, but its strides would say channels last
            layer.weight.data = layer.weight.data.flatten().view_as(layer.weight)
            layer.register_forward_pre_hook(_channels_first_where_gradients_are_wrong)
            layer.register_forward_hook(_channels_last)


def has_depthwise_atrous_convolution(network: nn.Module) -> bool:
    """Whether a network has a depthwise convolution with a rate above 1."""
    return any(is_depthwise(layer) and max(layer.dilation) > 1 for layer in network.modules())


def _channels_first_where_gradients_are_wrong(layer: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    assert isinstance(layer, nn.Conv2d)
    (feature,) = inputs
    learns = torch.is_grad_enabled() and layer.weight.requires_grad
    if not learns or feature.device.type != "cpu" or max(layer.dilation) == 1:
        return inputs
    precision = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else feature.dtype
    return (feature.contiguous(),) if precision == torch.bfloat16 else inputs


def _channels_last(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    return output.contiguous(memory_format=torch.channels_last)
