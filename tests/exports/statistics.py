"""Batch norms that do something, which those of new networks do not."""

from __future__ import annotations

from torch import nn


def fill_statistics(network: nn.Module) -> None:
    """Give every batch norm random means and variances, and set the network to evaluation."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.8, 1.2)
    network.eval()
