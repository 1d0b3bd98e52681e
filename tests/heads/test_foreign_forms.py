"""Options that give a head the form of somebody else's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atrous.backbones import FeatureSpec
from atrous.errors import AtrousError
from atrous.heads import DeepLabV3Head, DeepLabV3PlusHead
from atrous.heads.convolution import conv_block, separable_conv_block
from atrous.upsamplers import Bilinear

Oracle = dict[str, Callable[..., Tensor]]
SPECS = (FeatureSpec(5, 4, "fine"), FeatureSpec(12, 16, "last"))
SETTINGS: dict[str, Any] = {"grid": "points", "output_stride": 16, "num_classes": 3, "aspp_channels": 6}


def maps() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, s.channels, 64 // s.stride + 1, 48 // s.stride + 1, generator=generator) for s in SPECS]


@pytest.mark.parametrize("separable", [False, True])
def test_a_folded_block_is_convolution_bias_and_relu(separable: bool) -> None:
    block = separable_conv_block(4, 6, norm="folded") if separable else conv_block(4, 6, norm="folded")
    convolutions = [layer for layer in block if isinstance(layer, nn.Conv2d)]
    image = torch.randn(1, 4, 7, 9, generator=torch.Generator().manual_seed(0))
    wanted = image
    for layer in convolutions:
        assert layer.bias is not None
        nn.init.uniform_(layer.bias, -1, 1)
        wanted = F.conv2d(
            wanted, layer.weight, layer.bias, padding=layer.padding, dilation=layer.dilation, groups=layer.groups
        ).clamp(min=0)
    assert len(convolutions) == 1 + separable
    torch.testing.assert_close(block(image), wanted)


@pytest.mark.parametrize("head", [DeepLabV3Head, DeepLabV3PlusHead])
def test_a_folded_head_has_biases_instead_of_batch_norms(head: type[nn.Module]) -> None:
    built = head(features=SPECS, norm="folded", **SETTINGS)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in built.modules())
    assert all(layer.bias is not None for layer in built.modules() if isinstance(layer, nn.Conv2d))
    assert built.train()([each[:1] for each in maps()]).shape[:2] == (1, 3)  # and a batch of one trains


def test_a_separable_block_without_activation_between_is_one_linear_map(oracle: Oracle) -> None:
    block = separable_conv_block(4, 6, depthwise_activation=False)
    assert [type(layer) for layer in block] == [nn.Conv2d, nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    linear = block[:2].double()
    one, other = (torch.randn(1, 4, 5, 5, dtype=torch.float64) for _ in range(2))
    torch.testing.assert_close(linear(one - 2 * other), linear(one) - 2 * linear(other))


def test_the_projection_sees_its_neighbours() -> None:
    aspp = DeepLabV3Head(features=SPECS, projection_kernel=3, **SETTINGS).aspp
    assert aspp.projection[0].kernel_size == (3, 3)
    assert aspp.projection[0].padding == (1, 1)
    with pytest.raises(AtrousError, match=r"projection_kernel=5 must be 1 or 3"):
        DeepLabV3Head(features=SPECS, projection_kernel=5, **SETTINGS)


def test_the_decoder_alone_can_be_separable_and_the_map_refined_before_it() -> None:
    head = DeepLabV3PlusHead(features=SPECS, separable=False, decoder_separable=True, aspp_refinement=2, **SETTINGS)
    assert all(branch[0].groups == 1 for branch in head.aspp.atrous)
    assert [block[0].groups for block in head.aspp_refinement] == [6, 6]
    assert all(block[0].groups > 1 for block in head.refinement[0])
    feature = head.eval().aspp(maps()[-1])
    assert head.aspp_refinement(feature).shape == feature.shape


@pytest.mark.parametrize("align_corners", [False, True])
def test_corners_are_aligned_as_asked(align_corners: bool) -> None:
    scores = torch.randn(1, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    wanted = F.interpolate(scores, (13, 17), mode="bilinear", align_corners=align_corners)
    for grid in ("points", "cells"):
        assert torch.equal(Bilinear(grid=grid, num_classes=3, align_corners=align_corners)(scores, (13, 17)), wanted)
    head = DeepLabV3PlusHead(features=SPECS, align_corners=align_corners, **SETTINGS).eval()
    fine, coarse = maps()
    enlarged = F.interpolate(head.aspp(coarse), fine.shape[-2:], mode="bilinear", align_corners=align_corners)
    decoded = head.refinement[0](torch.cat([enlarged, head.low_level[0](fine)], dim=1))
    torch.testing.assert_close(head([fine, coarse]), head.classifier(decoded))


def test_unknown_norms_are_refused() -> None:
    with pytest.raises(AtrousError, match=r"model\.head\.norm='group' is unknown; choose batch or folded"):
        DeepLabV3Head(features=SPECS, norm="group", **SETTINGS)
