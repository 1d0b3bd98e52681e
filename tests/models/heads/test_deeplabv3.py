"""Heads of DeepLabv3 against the paper's rates and against a cascade built by hand."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atrous.errors import AtrousError
from atrous.geometry import Grid
from atrous.models.backbones import FeatureMaps, FeatureSpec, TimmBackbone
from atrous.models.heads import CascadeHead, DeepLabV3Head, FCNHead
from atrous.models.segmentor import Segmentor

Oracle = dict[str, Callable[..., Tensor]]
Randomize = Callable[[nn.Module], nn.Module]
SPECS = (FeatureSpec(5, 8, "before"), FeatureSpec(12, 16, "last"))


MAPS = FeatureMaps(SPECS, Grid.POINTS, 16)


def head(**options: Any) -> DeepLabV3Head:
    torch.manual_seed(1)
    return DeepLabV3Head(MAPS, 3, **{"aspp_channels": 6, **options})


def maps(batch: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(batch, s.channels, 144 // s.stride + 1, 96 // s.stride + 1, generator=generator).double()
        for s in SPECS
    ]


def test_scores_are_those_of_the_paper(randomize: Randomize) -> None:
    built = head()
    randomize(built)
    image = built.aspp(maps()[-1])
    wanted = torch.einsum("bchw,kc->bkhw", image, built.classifier.weight[..., 0, 0])
    torch.testing.assert_close(built(maps()), wanted)


def test_without_rates_two_branches_are_left() -> None:
    """TensorFlow's MobileNetV2 form: image pooling and 1×1."""
    built = head(rates=()).double()
    assert built.aspp.projection[0].in_channels == 12
    assert built.eval()(maps(batch=1)).shape == (1, 3, 10, 7)


def test_stride_follows() -> None:
    built = head()
    built.set_output_stride(8)
    assert built.stride == 8
    assert [branch[0].dilation[0] for branch in built.aspp.atrous] == [12, 24, 36]


def cascade(output_stride: int = 16, blocks: int = 3, name: str = "resnet50", **options: Any) -> Segmentor:
    torch.manual_seed(2)
    return Segmentor(
        backbone=TimmBackbone(name, output_stride=output_stride),
        head=partial(CascadeHead, blocks=blocks),
        num_classes=3,
        **options,
    )


def cascade_rates(segmentor: Segmentor) -> list[list[int]]:
    assert isinstance(segmentor.head, CascadeHead)
    return [[unit.conv2.dilation[0] for unit in block] for block in segmentor.head.blocks]


@pytest.mark.parametrize(("output_stride", "rates"), [(32, (2, 4, 8)), (16, (4, 8, 16)), (8, (8, 16, 32))])
def test_every_block_doubles_the_rate(output_stride: int, rates: tuple[int, ...]) -> None:
    """Figure 3: at output stride 16 blocks 4 to 7 have rates 2, 4, 8, 16."""
    segmentor = cascade()
    segmentor.set_output_stride(output_stride)
    assert cascade_rates(segmentor) == [[rate] * 3 for rate in rates]
    assert segmentor.head.stride == output_stride


def test_the_multi_grid_multiplies_the_rates_of_every_block() -> None:
    assert cascade_rates(cascade(multi_grid=(1, 2, 1))) == [[4, 8, 4], [8, 16, 8], [16, 32, 16]]


def test_blocks_begin_as_copies_of_the_last_stage_and_part_in_training() -> None:
    segmentor = cascade(blocks=2)
    assert isinstance(segmentor.head, CascadeHead)
    last = segmentor.backbone.last_stage()
    for block in segmentor.head.blocks:
        for unit, source in zip(block, (last[1], last[1], last[2]), strict=True):
            for (name, mine), theirs in zip(unit.state_dict().items(), source.state_dict().values(), strict=True):
                assert torch.equal(mine, theirs), name
                assert mine.data_ptr() != theirs.data_ptr(), name
    assert segmentor.head.blocks[0][0].conv1.weight is not segmentor.head.blocks[0][1].conv1.weight


def test_the_cascade_computes_what_units_by_hand_compute(oracle: Oracle, randomize: Randomize) -> None:
    """Bottlenecks with their convolutions as ordinary ones whose filters have holes."""
    segmentor = cascade(blocks=1)
    randomize(segmentor.head)
    assert isinstance(segmentor.head, CascadeHead)
    generator = torch.Generator().manual_seed(3)
    feature = torch.randn(1, 2048, 9, 7, generator=generator, dtype=torch.float64)
    before = feature.clone()
    scores = segmentor.head([feature])
    assert torch.equal(feature, before)
    block = oracle["block"]
    for unit in segmentor.head.blocks[0]:
        inner = block(feature, nn.Sequential(unit.conv1, unit.bn1))
        inner = block(inner, nn.Sequential(unit.conv2, unit.bn2), 4)
        outer = F.conv2d(inner, unit.conv3.weight)
        norm = unit.bn3
        outer = F.batch_norm(outer, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        feature = (outer + feature).clamp(min=0)
    torch.testing.assert_close(
        scores, torch.einsum("bchw,kc->bkhw", feature, segmentor.head.classifier.weight[..., 0, 0])
    )


def test_a_cascade_of_basic_blocks() -> None:
    segmentor = cascade(name="resnet18", blocks=2).eval()
    with torch.no_grad():
        assert segmentor(torch.zeros(1, 3, 70, 50)).shape == (1, 3, 70, 50)


def test_no_blocks_leave_the_classifier() -> None:
    assert sum(p.numel() for p in cascade(blocks=0).head.parameters()) == 2048 * 3 + 3
    with pytest.raises(AtrousError, match=r"model.head.blocks=-1 must be at least 0"):
        cascade(blocks=-1)


def test_a_backbone_without_stages_has_no_cascade() -> None:
    with pytest.raises(AtrousError, match=r"model\.head\.blocks is about .* not a sequence of units"):
        Segmentor(
            backbone=TimmBackbone("xception41", taps=["blocks.1.stack.conv2", "blocks.12"]),
            head=CascadeHead,
            num_classes=3,
        )


def test_fcn_head_on_the_map_before_the_last() -> None:
    built = FCNHead(MAPS, 3, channels=4).double().eval()
    assert built.stride == 8
    assert built(maps()).shape == (2, 3, 19, 13)
    wide = FCNHead(FeatureMaps((FeatureSpec(64, 16, "a"), FeatureSpec(12, 16, "b")), Grid.POINTS, 16), 3)
    assert wide.block[0].out_channels == 16
    for output_stride, stride in ((8, 8), (32, 16)):
        wide.set_output_stride(output_stride)
        assert wide.stride == stride
    with pytest.raises(AtrousError, match="give a number from -2 to -1"):
        FCNHead(MAPS, 3, feature=-3)
