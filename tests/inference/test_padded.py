"""Padding to a fixed size against the network on an image that was normalized and padded by hand."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from atrous.errors import AtrousError
from atrous.inference import Padded, WholeImage
from atrous.metrics import Protocol
from atrous.models.backbones import TimmBackbone
from atrous.models.heads import DeepLabV3Head
from atrous.models.segmentor import Segmentor


@pytest.fixture(scope="module")
def segmentor() -> Segmentor:
    """DeepLabv3 with image pooling; the first map of its backbone is seen by the tests."""
    torch.manual_seed(0)
    head = partial(DeepLabV3Head, aspp_channels=8)
    network = Segmentor(backbone=TimmBackbone("test_resnet"), head=head, num_classes=4)
    return network.eval()


def pictures(height: int, width: int) -> Tensor:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, height, width), dtype=np.uint8)
    return torch.from_numpy(pixels)


@torch.no_grad()
@pytest.mark.parametrize("shape", [(40, 57), (65, 97), (7, 97)])
def test_equals_the_network_on_an_image_padded_by_hand(segmentor: Segmentor, shape: tuple[int, int]) -> None:
    image = pictures(*shape)
    mean, std = (np.array(values)[:, None, None] for values in (segmentor.backbone.mean, segmentor.backbone.std))
    canvas = np.zeros((2, 3, 65, 97), dtype=np.float32)  # 16·4 + 1 and 16·6 + 1: the network extends nothing
    canvas[:, :, : shape[0], : shape[1]] = (image.numpy() / 255 - mean) / std
    scores = segmentor.head(segmentor.backbone(torch.from_numpy(canvas)))
    logits = F.interpolate(scores, size=(65, 97), mode="bilinear", align_corners=True)
    wanted = logits[..., : shape[0], : shape[1]].softmax(dim=1)
    torch.testing.assert_close(Padded(size=[65, 97])(segmentor, image), wanted, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_network_sees_exact_zeros(segmentor: Segmentor) -> None:
    seen = []
    handle = segmentor.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    Padded(size=65)(segmentor, pictures(33, 20))
    handle.remove()
    assert seen[0].shape == (2, 3, 65, 65)
    assert not seen[0][..., 33:, :].any()
    assert not seen[0][..., 20:].any()
    assert seen[0][..., :33, :20].all()


@torch.no_grad()
def test_padding_changes_what_image_pooling_averages(segmentor: Segmentor) -> None:
    """Far from the border, too; an image of the full size stays as it is."""
    small, full = pictures(33, 33), pictures(65, 65)
    padded = Padded(size=65)
    assert (padded(segmentor, small)[..., 0, 0] - WholeImage()(segmentor, small)[..., 0, 0]).abs().max() > 1e-4
    torch.testing.assert_close(padded(segmentor, full), WholeImage()(segmentor, full))


def test_a_score_says_so() -> None:
    protocol = Protocol("voc", "val", 16, **Padded(size=513).protocol)
    assert "padded to 513×513" in str(protocol)
    assert Protocol.from_dict(protocol.to_dict()) == protocol


def test_a_larger_image_is_refused(segmentor: Segmentor) -> None:
    with pytest.raises(
        AtrousError, match=r"80×20 pixels .*65×65: set inference\.size=\[80,65\] or more, or inference=w"
    ):
        Padded(size=65)(segmentor, pictures(80, 20))


@pytest.mark.parametrize("size", [0, (1, 2, 3), (4, -1)])
def test_sizes_that_are_none_are_refused(size: int | tuple[int, ...]) -> None:
    with pytest.raises(AtrousError, match=r"inference\.size"):
        Padded(size=size)
