"""The rule of HDC against following every path through a stack of atrous convolutions."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from atrous.errors import AtrousError
from atrous.models.backbones import TimmBackbone
from atrous.models.backbones.hdc import (
    describe_holes,
    hdc_rates,
    holes,
    keeps_the_rule,
    max_distances,
    share_of_pixels_used,
)


def reached_by_gradient(rates: list[int], kernel: int) -> torch.Tensor:
    """Which input pixels an output pixel depends on, by differentiating a stack of convolutions with positive taps."""
    reach = kernel // 2 * sum(rates)
    image = torch.zeros(1, 1, 2 * reach + 1, 2 * reach + 1, dtype=torch.float64, requires_grad=True)
    feature = image
    for rate in rates:
        convolution = nn.Conv2d(1, 1, kernel, dilation=rate, bias=False, dtype=torch.float64)
        nn.init.ones_(convolution.weight)
        feature = convolution(feature)
    assert feature.shape == (1, 1, 1, 1)
    feature.sum().backward()
    assert image.grad is not None
    return image.grad[0, 0] > 0


SCHEDULES = [[2], [1, 2], [2, 2], [1, 2, 5], [1, 2, 9], [2, 2, 2], [2, 4, 8], [5, 1, 2], [1, 3, 4], [3, 6]]


@pytest.mark.parametrize("rates", SCHEDULES, ids=str)
@pytest.mark.parametrize("kernel", [3, 5])
def test_holes_are_the_pixels_without_influence(rates: list[int], kernel: int) -> None:
    reached = reached_by_gradient(rates, kernel)
    center = kernel // 2 * sum(rates)
    along_an_axis = [d for d in range(center + 1) if not reached[center, center + d]]
    assert list(holes(rates, kernel)) == along_an_axis
    assert share_of_pixels_used(rates, kernel) == pytest.approx(float(reached.double().mean()))


def test_the_examples_of_the_paper() -> None:
    """With a kernel of 3, rates 1, 2, 5 have M_2 = 2 and 1, 2, 9 have M_2 = 5 (§3.2); two layers of 2 use 25 of 81."""
    assert max_distances([1, 2, 5]) == [1, 2, 5]
    assert keeps_the_rule([1, 2, 5])
    assert max_distances([1, 2, 9])[1] == 5
    assert not keeps_the_rule([1, 2, 9])
    assert share_of_pixels_used([2, 2]) == pytest.approx(25 / 81)
    assert holes([1, 2, 5]) == ()
    assert holes([1, 2, 9]) != ()


def test_growing_schedules_that_keep_the_rule_have_no_holes() -> None:
    """Every schedule 1 < a < b up to 12."""
    checked = 0
    for rates in itertools.combinations(range(2, 13), 2):
        if keeps_the_rule([1, *rates]):
            assert holes([1, *rates]) == (), rates
            checked += 1
    assert checked > 5


def test_equal_rates_pass_the_rule_but_not_the_eye() -> None:
    """M_2 = 2 for 2, 2, 2: the rule alone does not see a common factor, following the paths does."""
    assert keeps_the_rule([2, 2, 2])
    sentence = describe_holes([2, 2, 2])
    assert sentence is not None
    assert "2, 2, 2" in sentence
    assert "gridding" in sentence
    assert describe_holes([1, 2, 5]) is None


def test_the_authors_schedule_for_resnet_101() -> None:
    assert hdc_rates({"layer3": 23, "layer4": 3}) == {
        "layer3": (2, 2, 5, 9, 1, 2, 5, 9, 1, 2, 5, 9, 1, 2, 5, 9, 1, 2, 5, 9, 1, 2, 5),
        "layer4": (5, 9, 17),
    }
    assert hdc_rates({"layer3": 6, "layer4": 3})["layer3"] == (2, 2, 5, 9, 1, 2)


def test_the_authors_schedule_has_no_holes() -> None:
    for units in (6, 23):
        rates = [rate for stage in hdc_rates({"layer3": units, "layer4": 3}).values() for rate in stage]
        assert holes(rates) == ()


def rates_of(backbone: TimmBackbone, stage: str) -> list[set[int]]:
    units = backbone.network.get_submodule(stage)
    return [
        {m.dilation[0] for m in unit.modules() if isinstance(m, nn.Conv2d) and m.kernel_size[0] > 1} for unit in units
    ]


def test_a_resnet_gets_the_schedule() -> None:
    backbone = TimmBackbone("resnet50", output_stride=8, dilation="hdc")
    assert rates_of(backbone, "layer3") == [{2}, {2}, {5}, {9}, {1}, {2}]
    assert rates_of(backbone, "layer4") == [{5}, {9}, {17}]
    assert rates_of(backbone, "layer2") == [{1}] * 4
    assert [spec.stride for spec in backbone.features] == [2, 4, 8, 8, 8]
    assert backbone(torch.zeros(1, 3, 65, 97))[-1].shape[-2:] == (9, 13)


def test_own_rates_by_stage_and_a_warning_about_gridding() -> None:
    with pytest.warns(UserWarning, match=r"the atrous rates 2, 4 leave .* of their field of view unused \(gridding\)"):
        backbone = TimmBackbone("resnet18", output_stride=8, dilation={"layer4": [2, 4]})
    assert rates_of(backbone, "layer4") == [{2}, {4}]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dilation": "hdc"}, "for output stride 8, not 16: set backbone.output_stride=8"),
        ({"dilation": "hbc", "output_stride": 8}, "backbone.dilation='hbc' is unknown; give hdc"),
        ({"dilation": {"layer9": [1]}, "output_stride": 8}, "'layer9'; 'resnet18' has act1, layer1"),
        ({"dilation": {"layer4": [1, 2, 5]}, "output_stride": 8}, "3 rates for the 2 units of stage 'layer4'"),
    ],
)
def test_impossible_schedules_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(AtrousError, match=message):
        TimmBackbone("resnet18", **options)


@pytest.mark.parametrize("rates", [[], [0, 1], [-2]])
def test_rates_are_positive(rates: list[int]) -> None:
    with pytest.raises(AtrousError, match="positive whole numbers"):
        max_distances(rates)
    with pytest.raises(AtrousError, match="kernel of 4"):
        holes([1, 2], 4)
