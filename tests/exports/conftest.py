"""A small network whose numbers are of ordinary size, and its card."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.exports.statistics import fill_statistics
from torch import nn

import atrous
from atrous.checkpoints import Card
from atrous.data.label_space import LabelSpace
from atrous.models import Segmentor

OPTIONS = ("model.head.aspp_channels=16", "model.head.decoder_channels=16")
CLASSES = ("sky", "road", "tree", "car", "pole")


@pytest.fixture(scope="session")
def lively() -> Callable[..., Segmentor]:
    """Build a network whose logits differ by several units, with statistics in its batch norms."""

    def build(model: str = "deeplabv3plus", backbone: str = "timm", *overrides: str) -> Segmentor:
        torch.manual_seed(0)
        names = ("backbone.name=test_resnet",) if backbone == "timm" else ()
        network = atrous.create(model, backbone, num_classes=len(CLASSES), overrides=(*names, *overrides))
        fill_statistics(network)
        last = [each for each in network.head.modules() if isinstance(each, nn.Conv2d)][-1]
        assert last.out_channels == network.upsampler.score_channels
        assert last.bias is not None
        image = smooth(65, 97)
        with torch.no_grad():
            last.weight.normal_()
            last.weight -= last.weight.mean(dim=1, keepdim=True)
            last.bias -= network(image, outputs="map").mean(dim=(0, 2, 3))  # so that every class wins somewhere
            factor = 3 / network(image, outputs="map").std()
            last.weight *= factor
            last.bias *= factor
        return network

    return build


def smooth(height: int, width: int, seed: int = 5) -> torch.Tensor:
    """Smooth colors, uint8 1×3×H×W."""
    noise = torch.rand(1, 3, 5, 7, generator=torch.Generator().manual_seed(seed))
    return (255 * nn.functional.interpolate(noise, (height, width), mode="bicubic").clamp(0, 1)).to(torch.uint8)


@pytest.fixture(scope="session")
def picture() -> Callable[..., torch.Tensor]:
    """Draw smooth colors, uint8 1×3×H×W, of a seed."""
    return smooth


@pytest.fixture(scope="session")
def network(lively: Callable[..., Segmentor]) -> Segmentor:
    """DeepLabv3+ on a small ResNet."""
    return lively("deeplabv3plus", "timm", *OPTIONS)


@pytest.fixture(scope="session")
def recipe() -> dict[str, Any]:
    """The ``model`` node that describes it."""
    from atrous.composition import compose, plain

    overrides = [*OPTIONS, "model=deeplabv3plus", "backbone=timm", "backbone.name=test_resnet", "pretrained=false"]
    with compose("train", overrides) as config:
        node = plain(config.model)
    assert isinstance(node, dict)
    return node


@pytest.fixture(scope="session")
def card(network: Segmentor) -> Card:
    """What a checkpoint of it would say."""
    colors = tuple((40 * number, 200, 255 - 40 * number) for number in range(len(CLASSES)))
    return Card(LabelSpace("street", CLASSES, colors), preprocessing=network.preprocessing())
