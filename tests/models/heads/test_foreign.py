"""The heads of other projects: where they differ from the papers' heads, and only there.

Their weights are compared with the projects' own networks in ``tests/checkpoints/foreign``.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atrous.geometry import Grid
from atrous.models.backbones import FeatureMaps, FeatureSpec
from atrous.models.heads import (
    DeepLabV3Head,
    Head,
    MMSegDeepLabV3Head,
    MMSegDeepLabV3PlusHead,
    SMPDeepLabV3Head,
    SMPDeepLabV3PlusHead,
    TFLiteDeepLabV3Head,
    TorchvisionDeepLabV3Head,
)
from atrous.models.heads.foreign import linear_separable_conv_block
from atrous.models.upsamplers import Bilinear

SPECS = (FeatureSpec(5, 4, "fine"), FeatureSpec(12, 16, "last"))
MAPS = FeatureMaps(SPECS, Grid.CELLS, 16)
FOREIGN = (
    MMSegDeepLabV3Head,
    MMSegDeepLabV3PlusHead,
    SMPDeepLabV3Head,
    SMPDeepLabV3PlusHead,
    TFLiteDeepLabV3Head,
    TorchvisionDeepLabV3Head,
)


def maps(batch: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, s.channels, 64 // s.stride, 48 // s.stride, generator=generator) for s in SPECS]


@pytest.mark.parametrize("head", FOREIGN)
def test_each_follows_the_output_stride_and_learns_throughout(head: type[Any]) -> None:
    built: Head = head(MAPS, 3, aspp_channels=6)
    built.set_output_stride(8)
    assert next(layer.dilation for layer in built.aspp.atrous.modules() if isinstance(layer, nn.Conv2d)) == (12, 12)
    scores = built.train()(maps())
    assert scores.shape == (2, 3, *(64 // (4 if "Plus" in head.__name__ else 16) * side // 64 for side in (64, 48)))
    scores.square().sum().backward()
    assert [name for name, p in built.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_a_separable_block_without_activation_between_is_one_linear_map() -> None:
    block = linear_separable_conv_block(4, 6)
    assert [type(layer) for layer in block] == [nn.Conv2d, nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    linear = block[:2].double()
    one, other = (torch.randn(1, 4, 5, 5, dtype=torch.float64) for _ in range(2))
    torch.testing.assert_close(linear(one - 2 * other), linear(one) - 2 * linear(other))


@pytest.mark.parametrize("separable", [False, True])
def test_the_exported_head_has_biases_instead_of_batch_norms(separable: bool) -> None:
    built = TFLiteDeepLabV3Head(MAPS, 3, aspp_channels=6, separable=separable)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in built.modules())
    assert all(layer.bias is not None for layer in built.modules() if isinstance(layer, nn.Conv2d))
    assert built.train()(maps(batch=1)).shape[:2] == (1, 3)  # and a batch of one trains


def test_the_exported_head_is_the_papers_with_its_norms_folded() -> None:
    """Of fresh batch norms only the division by √(1 + ε) is left."""
    torch.manual_seed(0)
    paper = DeepLabV3Head(MAPS, 3, aspp_channels=6).eval()
    for layer in paper.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eps = 0.0
    exported = TFLiteDeepLabV3Head(MAPS, 3, aspp_channels=6).eval()
    weights = iter(layer.weight for layer in paper.modules() if isinstance(layer, nn.Conv2d))
    for layer in exported.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.data = next(weights).data
    torch.testing.assert_close(exported(maps()), paper(maps()))


@pytest.mark.parametrize("head", [MMSegDeepLabV3Head, MMSegDeepLabV3PlusHead])
def test_the_projection_of_mmsegmentation_sees_its_neighbors(head: type[Any]) -> None:
    aspp = head(MAPS, 3, aspp_channels=6).aspp
    assert aspp.projection[0].kernel_size == (3, 3)
    assert aspp.projection[0].padding == (1, 1)


@pytest.mark.parametrize("separable", [False, True])
def test_the_decoder_of_smp_is_always_separable(separable: bool) -> None:
    head = SMPDeepLabV3PlusHead(MAPS, 3, aspp_channels=6, separable=separable)
    assert all((branch[0].groups > 1) == separable for branch in head.aspp.atrous)
    assert [block[0].groups for block in (head.aspp_refinement[0], head.refinement[0][0])] == [6, 54]


@pytest.mark.parametrize("align_corners", [False, True])
def test_corners_are_aligned_as_asked(align_corners: bool) -> None:
    scores = torch.randn(1, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    wanted = F.interpolate(scores, (13, 17), mode="bilinear", align_corners=align_corners)
    for grid in Grid:
        assert torch.equal(Bilinear(grid=grid, num_classes=3, align_corners=align_corners)(scores, (13, 17)), wanted)
    head = MMSegDeepLabV3PlusHead(MAPS, 3, aspp_channels=6, align_corners=align_corners).eval()
    fine, coarse = maps()
    enlarged = F.interpolate(head.aspp(coarse), fine.shape[-2:], mode="bilinear", align_corners=align_corners)
    decoded = head.refinement[0](torch.cat([enlarged, head.low_level[0](fine)], dim=1))
    torch.testing.assert_close(head([fine, coarse]), head.classifier(decoded))
