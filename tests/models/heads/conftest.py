"""The head of DeepLabv3+ stated once more, with nothing but plain convolutions, matrix products and sums."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn


def atrous_convolution(image: Tensor, convolution: nn.Conv2d, rate: int) -> Tensor:
    """An atrous convolution as an ordinary one whose filter has zeros between its taps (v1 §3.1)."""
    weight = convolution.weight
    kernel = weight.shape[-1]
    holes = weight.new_zeros(*weight.shape[:2], (kernel - 1) * rate + 1, (kernel - 1) * rate + 1)
    holes[..., ::rate, ::rate] = weight
    return F.conv2d(image, holes, convolution.bias, padding=rate * (kernel // 2), groups=convolution.groups)


def normalized(image: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """Batch norm in evaluation by its formula."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    shape = (1, -1, 1, 1)
    centered = image - norm.running_mean.view(shape)
    scaled = centered / (norm.running_var.view(shape) + norm.eps).sqrt()
    return scaled * norm.weight.view(shape) + norm.bias.view(shape)


def interpolation(before: int, after: int) -> Tensor:
    """Matrix after×before that interpolates linearly between samples whose outermost ones coincide."""
    matrix = torch.zeros(after, before, dtype=torch.float64)
    for i in range(after):
        place = i * (before - 1) / (after - 1) if after > 1 else 0.0
        left = min(int(place), before - 1)
        right = min(left + 1, before - 1)
        matrix[i, left] += 1 - (place - left)
        matrix[i, right] += place - left
    return matrix


def enlarged(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear interpolation with aligned corners."""
    rows, columns = interpolation(image.shape[-2], size[0]), interpolation(image.shape[-1], size[1])
    return rows @ image @ columns.T


def block(image: Tensor, layers: nn.Sequential, rate: int = 1) -> Tensor:
    """Convolution (or depthwise, then pointwise), each with batch norm and ReLU; only the first has a rate."""
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            image = atrous_convolution(image, layer, rate)
            rate = 1
        elif isinstance(layer, nn.BatchNorm2d):
            image = normalized(image, layer).clamp(min=0)
    return image


@pytest.fixture
def oracle() -> dict[str, Callable[..., Tensor]]:
    """The functions above by name."""
    return {"block": block, "enlarged": enlarged, "interpolation": interpolation}


@pytest.fixture
def randomize() -> Callable[[nn.Module], nn.Module]:
    """Random affine parameters and statistics for every batch norm, in float64 and evaluation."""

    def fill(module: nn.Module) -> nn.Module:
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for layer in module.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    assert layer.running_mean is not None
                    assert layer.running_var is not None
                    layer.weight.uniform_(0.5, 1.5, generator=generator)
                    layer.bias.uniform_(-0.5, 0.5, generator=generator)
                    layer.running_mean.uniform_(-0.2, 0.2, generator=generator)
                    layer.running_var.uniform_(0.5, 1.5, generator=generator)
        return module.double().eval()

    return fill
