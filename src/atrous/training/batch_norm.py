"""Freezing batch norm (DeepLabv3 §4.1, second stage; DeepLabv2)."""

from __future__ import annotations

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
