"""Backbones as the configuration builds them, with weights that hide nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

Compare = Callable[[Tensor, Tensor], float]


@pytest.fixture
def randomize() -> Callable[[nn.Module], nn.Module]:
    """Give every vector (batch norm, bias, layer scale) and every running statistic a random value, in float64.

    Fresh residual branches end in a scale of zero or 1e-6, after which any wrong dilation would go unseen.
    """

    def fill(module: nn.Module) -> nn.Module:
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                if parameter.ndim == 1:
                    parameter.uniform_(0.5, 1.5, generator=generator)
                    if name.endswith("bias"):
                        parameter.sub_(1)
            for layer in module.modules():
                if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                    assert layer.running_mean is not None
                    assert layer.running_var is not None
                    layer.running_mean.uniform_(-0.5, 0.5, generator=generator)
                    layer.running_var.uniform_(0.5, 1.5, generator=generator)
        return module.double().eval()

    return fill


@pytest.fixture
def difference() -> Compare:
    """Largest difference of two maps over the largest value of the second."""

    def compare(one: Tensor, other: Tensor) -> float:
        assert one.shape == other.shape
        return float((one - other).abs().max() / other.abs().max())

    return compare
