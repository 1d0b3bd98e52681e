"""A small network, pictures, and what an independent implementation says about them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from torch import Tensor

from atrous.models import Segmentor
from atrous.models.backbones import TimmBackbone
from atrous.models.heads import DeepLabV3Head

Floats = NDArray[np.float64]


@pytest.fixture(scope="session")
def network() -> Segmentor:
    """DeepLabv3 with image pooling, whose classes differ within a picture."""
    torch.manual_seed(0)
    built = Segmentor(backbone=TimmBackbone("test_resnet"), head=partial(DeepLabV3Head, aspp_channels=8), num_classes=4)
    with torch.no_grad():
        for parameter in built.head.parameters():
            parameter.mul_(2)
    return built.eval()


@pytest.fixture(scope="session")
def pictures() -> Callable[..., Tensor]:
    """Smooth noise of any size: uint8 B×3×H×W."""

    def draw(height: int, width: int, *, batch: int = 2) -> Tensor:
        generator = torch.Generator().manual_seed(height * 1000 + width)
        coarse = torch.rand(batch, 3, height // 6 + 2, width // 6 + 2, generator=generator)
        fine = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")
        return fine.mul(255).clamp(0, 255).to(torch.uint8)

    return draw


def sampled(feature: Floats, down: Floats, across: Floats) -> Floats:
    """Bilinear interpolation of C×h×w at places among its pixels, by SciPy: C×n×m."""
    places = np.stack(np.meshgrid(down, across, indexing="ij"))
    return np.stack([map_coordinates(channel, places, order=1, mode="nearest") for channel in feature])


def resized(image: Floats, height: int, width: int) -> Floats:
    """An image C×H×W whose corners stay its corners."""
    return sampled(
        image, *(np.linspace(0, old - 1, new) for old, new in zip(image.shape[1:], (height, width), strict=True))
    )


def scores_of(network: Segmentor, image: Floats) -> Floats:
    """The head's scores of one image C×h×w: one every 16 pixels."""
    with torch.no_grad():
        extended = network.preprocess(torch.from_numpy(image)[None].float())
        return network.scores(extended)[0].double().numpy()


def softmax(logits: Floats) -> Floats:
    """Over the classes C×H×W."""
    powers = np.exp(logits - logits.max(axis=0))
    return powers / powers.sum(axis=0)


@pytest.fixture(scope="session")
def oracle() -> SimpleNamespace:
    """The functions of this file, for one image at a time."""
    return SimpleNamespace(sampled=sampled, resized=resized, scores_of=scores_of, softmax=softmax)
