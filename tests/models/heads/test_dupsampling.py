"""The head of DUpsampling: fusion, cost against the paper's tables, refusals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from atrous.errors import AtrousError
from atrous.geometry import Grid
from atrous.models.backbones import FeatureMaps, FeatureSpec
from atrous.models.heads.dupsampling import DUpsamplingHead
from atrous.models.upsamplers.dupsampling import DUpsampling

Oracle = dict[str, Callable[..., Tensor]]
Randomize = Callable[[nn.Module], nn.Module]

SPECS = (FeatureSpec(5, 2, "stem"), FeatureSpec(7, 4, "low"), FeatureSpec(9, 16, "middle"), FeatureSpec(11, 16, "high"))
SMALL = {"aspp_channels": 6, "low_level_channels": 4, "decoder_channels": 8, "rates": (1, 2, 3)}


def built(
    *,
    features: Sequence[FeatureSpec] = SPECS,
    grid: Grid = Grid.POINTS,
    output_stride: int = 16,
    num_classes: int = 10,
    **options: Any,
) -> DUpsamplingHead:
    torch.manual_seed(1)
    maps_of_backbone = FeatureMaps(tuple(features), grid, output_stride)
    return DUpsamplingHead(maps_of_backbone, num_classes, **{**SMALL, **options})


def maps(height: int = 97, width: int = 65) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(
            2, s.channels, height // s.stride + 1, width // s.stride + 1, generator=generator, dtype=torch.float64
        )
        for s in SPECS
    ]


@pytest.mark.parametrize("separable", [False, True])
@pytest.mark.parametrize("low_level", [[], [4], ["middle"], ["stem", "middle"], [2, 4]])
def test_low_level_maps_come_down_to_the_last_map(
    low_level: list[int | str], separable: bool, oracle: Oracle, randomize: Randomize
) -> None:
    """On a grid of points bilinear reduction takes the feature that lies on the same pixel."""
    head = built(low_level=low_level, separable=separable)
    randomize(head)
    features = maps()
    block = oracle["block"]
    image = head.aspp(features[-1])
    for tap, project, refine in zip(low_level, head.low_level, head.refinement, strict=True):
        index = {"stem": 0, "low": 1, "middle": 2, 2: 0, 4: 1}[tap]
        step = 16 // SPECS[index].stride
        image = torch.cat([image, block(features[index][..., ::step, ::step], project)], 1)
        for layers in refine:
            image = block(image, layers)
    wanted = torch.einsum("bchw,kc->bkhw", image, head.code.weight[..., 0, 0])
    scores = head(features)
    assert head.stride == 16
    assert scores.shape == (2, 10, 7, 5)
    torch.testing.assert_close(scores, wanted)


def test_vanilla_fusion_enlarges_the_last_map(oracle: Oracle, randomize: Randomize) -> None:
    head = built(low_level=["middle", 4], fusion="vanilla", separable=False)
    randomize(head)
    features = maps()
    block, enlarged = oracle["block"], oracle["enlarged"]
    image = head.aspp(features[-1])
    for index, project, refine in zip((2, 1), head.low_level, head.refinement, strict=True):
        low = block(features[index], project)
        image = torch.cat([enlarged(image, (low.shape[-2], low.shape[-1])), low], 1)
        for layers in refine:
            image = block(image, layers)
    wanted = torch.einsum("bchw,kc->bkhw", image, head.code.weight[..., 0, 0])
    assert head.stride == 4
    torch.testing.assert_close(head(features), wanted)


R50 = (
    FeatureSpec(128, 2, "conv1_3"),
    FeatureSpec(256, 4, "b1u2c3"),
    FeatureSpec(1024, 16, "b3u6c3"),
    FeatureSpec(2048, 16, "last"),
)
X65 = (FeatureSpec(256, 4, "efb2u1c2"), FeatureSpec(728, 16, "mfb1u16c3"), FeatureSpec(2048, 16, "last"))


@pytest.mark.parametrize(
    ("features", "low_level", "width", "paper"),
    [
        (R50, [], 64, 0.80),
        (R50, ["conv1_3"], 64, 1.13),
        (R50, ["b1u2c3"], 64, 1.15),
        (R50, ["b3u6c3"], 64, 1.23),
        (R50, ["b1u2c3", "b3u6c3"], 64, 1.58),
        (R50, ["conv1_3", "b3u6c3"], 64, 1.56),
        (X65, ["efb2u1c2"], 128, 1.93),
        (X65, ["mfb1u16c3"], 128, 1.98),
    ],
)
def test_the_decoder_costs_what_the_paper_says(
    features: Sequence[FeatureSpec], low_level: list[str], width: int, paper: float
) -> None:
    """Tables 2 and 3, billions of operations at 513×513 behind the ASPP.

    They come out for codes of 64 (ResNet-50) and 128 numbers (Xception-65) and 21 classes, if a multiplication and an
    addition count as two and dividing by the temperature as a pair.
    """
    counted = operations(features, low_level, width=width, fusion="downsample")
    assert round(counted / 1e9, 2) == pytest.approx(paper)


@pytest.mark.parametrize(("features", "tap", "paper"), [(R50, "b1u2c3", 5.53), (X65, "efb2u1c2", 5.53)])
def test_the_vanilla_decoder_costs_what_the_paper_says(features: Sequence[FeatureSpec], tap: str, paper: float) -> None:
    """Table 3: 21 classes at stride 4."""
    assert round(operations(features, [tap], width=21, fusion="vanilla") / 1e9, 2) == pytest.approx(paper)


def operations(features: Sequence[FeatureSpec], low_level: list[str], *, width: int, fusion: str) -> float:
    with torch.device("meta"):
        maps_of_backbone = FeatureMaps(tuple(features), Grid.POINTS, 16)
        head = DUpsamplingHead(maps_of_backbone, width, low_level=low_level, fusion=fusion).eval()
        images = [torch.empty(1, spec.channels, 512 // spec.stride + 1, 512 // spec.stride + 1) for spec in features]
        upsampler = DUpsampling(grid=Grid.POINTS, num_classes=21, ratio=16, width=width, weights="fit")
        with FlopCounterMode(display=False) as whole:
            scores = head(images)
        with FlopCounterMode(display=False) as pyramid:
            head.aspp(images[-1])
        total = whole.get_total_flops() - pyramid.get_total_flops()
        if fusion == "downsample":
            with FlopCounterMode(display=False) as decoder:
                upsampler(scores, (513, 513))
            total += decoder.get_total_flops() + 2 * 33 * 33 * 21 * 16**2
    return total


@pytest.mark.parametrize("fusion", ["downsample", "vanilla"])
def test_every_parameter_gets_a_gradient_and_the_features_stay(fusion: str) -> None:
    head = built(fusion=fusion, low_level=["middle", 2]).double().train()
    features = maps()
    before = [feature.clone() for feature in features]
    head(features).square().sum().backward()
    assert [n for n, p in head.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
    assert all(torch.equal(*pair) for pair in zip(features, before, strict=True))


def test_new_layers_start_with_variance_one_hundredth() -> None:
    head = built(aspp_channels=64, decoder_channels=64)
    for layer in (head.aspp.pointwise[0], head.refinement[0][0][3], head.code):
        assert float(layer.weight.detach().std()) == pytest.approx(0.1, rel=0.1)


def test_stride_follows_the_output_stride() -> None:
    head = built()
    head.set_output_stride(8)
    assert head.stride == 8
    assert head.aspp.atrous[0][0].dilation == (2, 2)
    vanilla = built(fusion="vanilla", low_level=[4])
    vanilla.set_output_stride(8)
    assert vanilla.stride == 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"low_level": [3]}, "no low-level feature map 3; name one of stem .stride 2., low"),
        ({"low_level": ["high"]}, "no low-level feature map 'high'"),
        ({"low_level": [2, 4], "fusion": "vanilla"}, "must go from coarse to fine"),
        ({"fusion": "upsample"}, "fusion='upsample' is unknown; choose downsample or vanilla"),
    ],
)
def test_mistakes_are_one_sentence(options: dict[str, Any], said: str) -> None:
    with pytest.raises(AtrousError, match=said):
        built(**options)


def test_a_stride_of_two_maps_needs_a_name() -> None:
    specs = (*SPECS[:1], FeatureSpec(7, 8, "a"), FeatureSpec(7, 8, "b"), FeatureSpec(7, 8, "c"))
    with pytest.raises(AtrousError, match="several low-level feature maps 8; name one of stem"):
        built(features=specs, output_stride=8, low_level=[8])


def test_the_stride_of_vanilla_fusion_is_that_of_its_finest_map() -> None:
    """A map of native stride 16 stays there when the output stride becomes 32, and follows it to 8."""
    features = (FeatureSpec(4, 16, "middle", 16), FeatureSpec(6, 16, "last", 32))
    head = DUpsamplingHead(FeatureMaps(features, Grid.POINTS, 16), 3, low_level=["middle"], fusion="vanilla")
    for output_stride, stride in ((32, 16), (8, 8), (16, 16)):
        head.set_output_stride(output_stride)
        assert head.stride == stride
