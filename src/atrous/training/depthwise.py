"""Which convolutions are depthwise."""

from __future__ import annotations

from typing import TypeGuard

from torch import nn


def is_depthwise(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether a layer is a convolution whose filters look at one input channel each, of several (v3+ §3.1)."""
    return isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1
