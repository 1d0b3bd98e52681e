"""Freezing batch norm (DeepLabv3 §4.1, second stage; DeepLabv2)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def freeze_batch_norm(module: nn.Module) -> None:
    """Use the running statistics and stop training scale and shift of every batch norm.

    The statistics move again after ``module.train()``, so this is to be repeated after it.
    """
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.eval()
            for parameter in layer.parameters():
                parameter.requires_grad_(False)


def hold_statistics(module: nn.Module, *, learning: Sequence[str]) -> None:
    """Use the running statistics of every batch norm whose tensor names begin with none of the given names.

    The statistics move again after ``module.train()``, so this is to be repeated after it.
    """
    for name, layer in module.named_modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            tensors = [f"{name}.{tensor}" for tensor in layer.state_dict()]
            if not any(tensor.startswith(tuple(learning)) for tensor in tensors):
                layer.eval()
