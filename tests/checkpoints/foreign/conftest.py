"""Foreign networks with random weights that hide nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from atrous.checkpoints.foreign import Translation
from atrous.composition.parts import build_segmentor
from atrous.models.segmentor import Segmentor


@pytest.fixture(scope="session")
def shaken() -> Callable[[nn.Module], nn.Module]:
    """Random scales, shifts and statistics for every batch norm, random biases, and weights that keep the variance."""

    def shake(network: nn.Module) -> nn.Module:
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for layer in network.modules():
                if isinstance(layer, nn.Conv2d):
                    fan = layer.weight[0].numel()
                    layer.weight.normal_(0, (2 / fan) ** 0.5, generator=generator)
                    if layer.bias is not None:
                        layer.bias.uniform_(-0.3, 0.3, generator=generator)
                elif isinstance(layer, nn.modules.batchnorm._BatchNorm):
                    assert layer.running_mean is not None
                    assert layer.running_var is not None
                    layer.weight.uniform_(0.4, 0.8, generator=generator)
                    layer.bias.uniform_(-0.5, 0.5, generator=generator)
                    layer.running_mean.uniform_(-0.3, 0.3, generator=generator)
                    layer.running_var.uniform_(0.5, 1.5, generator=generator)
        return network.eval()

    return shake


@pytest.fixture(scope="session")
def rebuilt() -> Callable[[Translation], Segmentor]:
    """Our network with translated weights: every tensor of ours comes from the file."""

    def rebuild(translation: Translation) -> Segmentor:
        segmentor = build_segmentor(translation.model, translation.num_classes)
        segmentor.load_state_dict(translation.state)
        return segmentor.eval()

    return rebuild


@pytest.fixture(scope="session")
def rates() -> Callable[[nn.Module], list[int]]:
    """Atrous rates of the 3×3 convolutions of a module in their order: small maps do not show the large ones."""

    def find(module: nn.Module) -> list[int]:
        convolutions = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
        return [layer.dilation[0] for layer in convolutions if layer.kernel_size[0] == 3]

    return find


@pytest.fixture(scope="session")
def pictures() -> Callable[..., tuple[Tensor, Callable[[Segmentor], Tensor]]]:
    """Random pictures 0 … 255, and what their normalization for a network gives."""

    def make(height: int, width: int, **options: Any) -> tuple[Tensor, Callable[[Segmentor], Tensor]]:
        image = torch.randint(0, 256, (2, 3, height, width), generator=torch.Generator().manual_seed(1)).float()
        return image, lambda segmentor: (image - segmentor.mean) / segmentor.std

    return make
