"""DeepLabv2's pyramid against explicit sums of convolutions whose filters have zeros between their taps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from atrous.errors import AtrousError
from atrous.geometry import Grid
from atrous.models.backbones import VGG16, FeatureMaps, FeatureSpec, TimmBackbone
from atrous.models.heads.aspp_sum import ASPPSumHead
from atrous.models.heads.large_fov import decimate
from atrous.models.segmentor import Segmentor

Oracle = dict[str, Callable[..., Tensor]]
SPECS = (FeatureSpec(5, 4, "low"), FeatureSpec(6, 8, "high"))


def built(*, output_stride: int = 8, **options: Any) -> ASPPSumHead:
    torch.manual_seed(1)
    maps_of_backbone = FeatureMaps(SPECS, Grid.POINTS, output_stride)
    head = ASPPSumHead(maps_of_backbone, 3, **{"rates": (2, 4, 8), **options}).double()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.uniform_(-0.5, 0.5)
    return head


def maps(height: int = 13, width: int = 19) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, s.channels, height, width, generator=generator, dtype=torch.float64) for s in SPECS]


def expected(head: ASPPSumHead, feature: Tensor, rates: tuple[int, ...], oracle: Oracle) -> Tensor:
    """One branch after the other."""

    def convolved(image: Tensor, layer: nn.Module, rate: int = 1) -> Tensor:
        return oracle["block"](image, nn.Sequential(layer), rate)

    total = torch.zeros(2, 3, *feature.shape[-2:], dtype=feature.dtype)
    for i, rate in enumerate(rates):
        if head.hidden is None:
            total += convolved(feature, head.fc8[i], rate)
        else:
            hidden = convolved(feature, head.fc6[i], rate).clamp(min=0)
            total += convolved(convolved(hidden, head.fc7[i]).clamp(min=0), head.fc8[i])
    return total


@pytest.mark.parametrize("hidden", [None, 9])
@pytest.mark.parametrize("rates", [(2, 4, 8), (3,), (1, 6)])
def test_scores_are_sums_over_branches(hidden: int | None, rates: tuple[int, ...], oracle: Oracle) -> None:
    head = built(hidden=hidden, rates=rates).eval()
    torch.testing.assert_close(head(maps()), expected(head, maps()[-1], rates, oracle))


@pytest.mark.parametrize("hidden", [None, 9])
def test_rates_follow_the_output_stride(hidden: int | None, oracle: Oracle) -> None:
    head = built(hidden=hidden).eval()
    for output_stride, rates in ((16, (1, 2, 4)), (32, (1, 1, 2)), (8, (2, 4, 8))):
        head.set_output_stride(output_stride)
        assert head.stride == output_stride
        torch.testing.assert_close(head(maps()), expected(head, maps()[-1], rates, oracle))


@pytest.mark.parametrize("hidden", [None, 9])
def test_the_same_scores_more_densely(hidden: int | None) -> None:
    """A map that is sampled half as finely has the same scores where both have one."""
    head = built(hidden=hidden).eval()
    features = maps()
    dense = head(features)
    head.set_output_stride(16)
    sparse = head([feature[..., ::2, ::2] for feature in features])
    torch.testing.assert_close(dense[..., ::2, ::2], sparse)


def test_parameters_on_vgg16_and_resnet101() -> None:
    """Worked out from FACTS: four branches of 3×3 1024, 1×1 1024, 1×1 21; or of 3×3 21 on 2048 channels."""

    def count(channels: int, hidden: int | None) -> int:
        specs = (FeatureSpec(channels, 8, "high"),)
        with torch.device("meta"):
            head = ASPPSumHead(FeatureMaps(specs, Grid.POINTS, 8), 21, hidden=hidden)
        return sum(p.numel() for p in head.parameters())

    assert count(512, 1024) == 4 * (512 * 1024 * 9 + 1024 + 1024 * 1024 + 1024 + 1024 * 21 + 21)
    assert count(2048, None) == 4 * (2048 * 21 * 9 + 21)


def test_default_rates_are_aspp_l() -> None:
    head = ASPPSumHead(FeatureMaps(SPECS, Grid.POINTS, 8), 2)
    assert [layer.dilation for layer in head.fc8] == [(6, 6), (12, 12), (18, 18), (24, 24)]


@pytest.mark.parametrize("hidden", [None, 1024])
def test_initial_weights_are_the_released_nets(hidden: int | None) -> None:
    head = ASPPSumHead(FeatureMaps(SPECS, Grid.POINTS, 8), 21, hidden=hidden)
    weights = torch.cat([layer.weight.detach().flatten() for layer in head.fc8])
    assert float(weights.std()) == pytest.approx(0.01, rel=0.05)
    assert all(torch.count_nonzero(layer.bias) == 0 for layer in head.fc8)


def test_every_branch_starts_from_its_own_part_of_the_classifier() -> None:
    generator = torch.Generator().manual_seed(2)
    shapes = {"fc6.weight": (60, 6, 7, 7), "fc6.bias": (60,), "fc7.weight": (60, 60, 1, 1), "fc7.bias": (60,)}
    classifier = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    backbone = VGG16(channels=(2, 2, 2, 2, 6))
    backbone.classifier = dict(classifier)
    network = Segmentor(backbone=backbone, head=partial(ASPPSumHead, hidden=20), num_classes=3)
    head = network.head
    assert isinstance(head, ASPPSumHead)
    subsets = []
    for branch in range(4):
        wanted = decimate(classifier, kernel=3, channels=20, seed=branch)
        for name, tensor in wanted.items():
            layer, kind = name.split(".")
            assert torch.equal(head.get_parameter(f"{layer}.{branch}.{kind}"), tensor), name
        subsets.append(tuple(wanted["fc6.bias"].tolist()))
    assert len(set(subsets)) == 4
    assert head.pretrained_names == ("fc6", "fc7")
    assert backbone.classifier is None


def test_new_layers_are_not_inherited() -> None:
    backbone = TimmBackbone("test_resnet")
    for hidden in (None, 4):
        network = Segmentor(backbone=backbone, head=partial(ASPPSumHead, hidden=hidden), num_classes=3)
        assert network.head.pretrained_names == ()
    straight = Segmentor(backbone=VGG16(channels=(2,) * 5), head=ASPPSumHead, num_classes=3)
    assert straight.head.pretrained_names == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rates": ()}, r"model.head.rates=\[\] must name one positive rate"),
        ({"rates": (6, 0)}, r"model.head.rates=\[6, 0\] must name one positive rate"),
        ({"hidden": 0}, r"model.head.hidden=0 must be at least 1"),
    ],
)
def test_refusals(options: dict[str, Any], message: str) -> None:
    with pytest.raises(AtrousError, match=message):
        built(**options)


@pytest.mark.parametrize("hidden", [None, 9])
def test_every_parameter_gets_a_gradient_and_the_features_stay(hidden: int | None) -> None:
    head = built(hidden=hidden, dropout=0.1).train()
    features = maps()
    copies = [feature.clone() for feature in features]
    head(features).square().sum().backward()
    assert [n for n, p in head.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
    assert all(torch.equal(*pair) for pair in zip(features, copies, strict=True))


def test_dropout_in_training_only() -> None:
    head = built(hidden=9)
    assert not torch.equal(head.train()(maps()), head(maps()))
    assert torch.equal(head.eval()(maps()), head(maps()))
