"""The whole head: fusion, refinement, parameters, initialization, refusals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from atrous.errors import AtrousError
from atrous.geometry import Grid
from atrous.models.backbones import FeatureMaps, FeatureSpec
from atrous.models.heads import DeepLabV3PlusHead

Oracle = dict[str, Callable[..., Tensor]]
Randomize = Callable[[nn.Module], nn.Module]

SPECS = (FeatureSpec(5, 2, "stem"), FeatureSpec(7, 4, "low"), FeatureSpec(9, 8, "middle"), FeatureSpec(11, 16, "high"))
SMALL = {"aspp_channels": 6, "low_level_channels": 4, "decoder_channels": 8, "rates": (1, 2, 3)}


def built(
    *,
    features: Sequence[FeatureSpec] = SPECS,
    grid: Grid = Grid.POINTS,
    output_stride: int = 16,
    num_classes: int = 3,
    **options: Any,
) -> DeepLabV3PlusHead:
    torch.manual_seed(1)
    maps_of_backbone = FeatureMaps(tuple(features), grid, output_stride)
    return DeepLabV3PlusHead(maps_of_backbone, num_classes, **{**SMALL, **options})


def maps(batch: int = 2, height: int = 97, width: int = 65) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(
            batch, s.channels, height // s.stride + 1, width // s.stride + 1, generator=generator, dtype=torch.float64
        )
        for s in SPECS
    ]


@pytest.mark.parametrize("separable", [False, True])
@pytest.mark.parametrize(("stride", "index"), [(4, 1), (8, 2)])
def test_scores_are_those_of_the_paper(
    separable: bool, stride: int, index: int, oracle: Oracle, randomize: Randomize
) -> None:
    """ASPP, ×4 bilinear, concatenation with the projected low-level map, two 3×3, 1×1 (v3+ §3.1)."""
    head = built(separable=separable, low_level_stride=stride)
    randomize(head)
    features = maps()
    block, enlarged = oracle["block"], oracle["enlarged"]
    low = block(features[index], head.low_level[0])
    high = enlarged(head.aspp(features[-1]), (low.shape[-2], low.shape[-1]))
    image = torch.cat([high, low], 1)
    for layers in head.refinement[0]:
        image = block(image, layers)
    wanted = torch.einsum("bchw,kc->bkhw", image, head.classifier.weight[..., 0, 0])
    scores = head(features)
    assert scores.shape == (2, 3, 97 // stride + 1, 65 // stride + 1)
    torch.testing.assert_close(scores, wanted)


def test_several_low_level_maps_are_fused_from_coarse_to_fine(oracle: Oracle, randomize: Randomize) -> None:
    """Table 2's "conv2 + conv3": ×2 to stride 8, fuse and refine, ×2 to stride 4, fuse and refine."""
    head = built(low_level_stride=[8, 4], separable=False, decoder_depth=1)
    randomize(head)
    features = maps()
    block, enlarged = oracle["block"], oracle["enlarged"]
    image = head.aspp(features[-1])
    for index, project, refine in zip((2, 1), head.low_level, head.refinement, strict=True):
        low = block(features[index], project)
        image = torch.cat([enlarged(image, (low.shape[-2], low.shape[-1])), low], 1)
        for layers in refine:
            image = block(image, layers)
    wanted = torch.einsum("bchw,kc->bkhw", image, head.classifier.weight[..., 0, 0])
    assert head.stride == 4
    torch.testing.assert_close(head(features), wanted)


@pytest.mark.parametrize("strides", [[4, 8], [4, 4], []])
def test_low_level_strides_go_from_coarse_to_fine(strides: list[int]) -> None:
    with pytest.raises(AtrousError, match="must go from coarse to fine, each stride once"):
        built(low_level_stride=strides)


def test_a_decoder_of_pointwise_convolutions() -> None:
    """Table 2's [1×1, 256]."""
    head = built(decoder_kernel=1, decoder_depth=1)
    assert head.refinement[0][0][0].kernel_size == (1, 1)
    assert head.double()(maps()).shape == (2, 3, 25, 17)


def count(head: nn.Module) -> int:
    return sum(parameter.numel() for parameter in head.parameters())


@pytest.mark.parametrize(
    ("backbone", "low", "high"), [("resnet101", 256, 2048), ("xception65", 256, 2048), ("mobilenetv2", 24, 320)]
)
def test_number_of_parameters(backbone: str, low: int, high: int) -> None:
    """Worked out from the paper's sizes: 256 channels, rates 6, 12, 18, 48 low-level channels, two 3×3, 21 classes."""
    specs = (FeatureSpec(low, 4, "low"), FeatureSpec(high, 16, "high"))

    def dense(before: int, after: int, kernel: int) -> int:
        return before * after * kernel**2 + 2 * after

    def separable(before: int, after: int) -> int:
        return 9 * before + 2 * before + before * after + 2 * after

    common = dense(high, 256, 1) * 2 + dense(5 * 256, 256, 1) + dense(low, 48, 1) + 256 * 21 + 21
    on = FeatureMaps(specs, Grid.POINTS, 16)
    assert count(DeepLabV3PlusHead(on, 21, separable=False)) == (
        common + 3 * dense(high, 256, 3) + dense(304, 256, 3) + dense(256, 256, 3)
    )
    assert count(DeepLabV3PlusHead(on, 21, separable=True)) == (
        common + 3 * separable(high, 256) + separable(304, 256) + separable(256, 256)
    )


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_depth_of_the_decoder(depth: int) -> None:
    head = built(decoder_depth=depth).double()
    assert len(head.refinement[0]) == depth
    assert head(maps()).shape == (2, 3, 25, 17)


def test_initial_weights_are_the_authors() -> None:
    """Truncated normal with 0.33 (depthwise), 0.06 (pointwise), 0.01 (classifier), cut at two deviations."""
    head = built(aspp_channels=256, decoder_channels=256, low_level_channels=48, rates=(6, 12, 18), num_classes=21)
    # standard deviation of a unit normal that is cut at ±2
    cut = math.sqrt(1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2)))
    depthwise = torch.cat([layers[0].weight.flatten() for layers in head.refinement[0]])
    for weights, deviation in (
        (depthwise, 0.33),
        (head.refinement[0][0][3].weight, 0.06),
        (head.aspp.atrous[1][3].weight, 0.06),
        (head.classifier.weight, 0.01),
    ):
        weights = weights.detach()
        assert float(weights.std()) == pytest.approx(cut * deviation, rel=0.05)
        assert float(weights.abs().max()) <= 2 * deviation
        assert abs(float(weights.mean())) < 0.1 * deviation
    assert head.classifier.bias is not None
    assert torch.count_nonzero(head.classifier.bias) == 0


def test_low_level_stride_that_the_backbone_has_not() -> None:
    with pytest.raises(AtrousError, match=r"no low-level feature map of stride 3; .*can be one of 2, 4, 8$"):
        built(low_level_stride=3)
    with pytest.raises(AtrousError, match="no low-level feature map of stride 16"):
        built(low_level_stride=16)


@pytest.mark.parametrize("separable", [False, True])
def test_every_parameter_gets_a_gradient_and_the_features_stay(separable: bool) -> None:
    head = built(separable=separable).double().train()
    features = maps()
    before = [feature.clone() for feature in features]
    head(features).square().sum().backward()
    assert [n for n, p in head.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
    assert all(torch.equal(*pair) for pair in zip(features, before, strict=True))


def test_one_image_in_evaluation_and_in_training() -> None:
    head = built().double()
    assert head.eval()(maps(batch=1)).shape == (1, 3, 25, 17)
    with pytest.raises(AtrousError, match="batch of one image"):
        head.train()(maps(batch=1))


def test_output_stride_reaches_the_pyramid_only() -> None:
    head = built(rates=(6, 12, 18))
    head.set_output_stride(8)
    assert [branch[0].dilation[0] for branch in head.aspp.atrous] == [12, 24, 36]
    assert {m.dilation for m in head.refinement.modules() if isinstance(m, nn.Conv2d)} == {(1, 1)}
