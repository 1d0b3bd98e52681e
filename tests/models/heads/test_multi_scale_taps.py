"""DeepLabv1's multi-scale taps: where they land, what they add, and what they are called."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atrous.errors import AtrousError
from atrous.geometry import Grid
from atrous.models.backbones import VGG16, FeatureMaps, FeatureSpec, TimmBackbone
from atrous.models.heads.large_fov import LargeFOVHead
from atrous.models.heads.multi_scale_taps import MultiScaleTapsHead
from atrous.models.segmentor import Segmentor
from atrous.models.upsamplers import Deconvolution
from atrous.training.parameter_groups import parameter_groups, train_only

Oracle = dict[str, Callable[..., Tensor]]
NARROW = (2, 3, 4, 5, 6)
INNER = partial(LargeFOVHead, channels=7)


def randomized(module: nn.Module) -> nn.Module:
    """Weights so large that every tap shows in the sum."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(-0.5, 0.5, generator=torch.Generator().manual_seed(parameter.numel()))
    return module.double()


def network(output_stride: int = 8, **options: Any) -> Segmentor:
    torch.manual_seed(0)
    head = partial(MultiScaleTapsHead, head=INNER, channels=4, **options)
    backbone = VGG16(channels=NARROW, output_stride=output_stride)
    return Segmentor(backbone=backbone, head=head, num_classes=3)


def taps_of(segmentor: Segmentor) -> MultiScaleTapsHead:
    assert isinstance(segmentor.head, MultiScaleTapsHead)
    return segmentor.head


def noise(height: int, width: int, batch: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(batch, 3, height, width, generator=generator, dtype=torch.float64) * 255


def perceptron(tap: nn.Module, feature: Tensor) -> Tensor:
    """A tap at stride 1."""
    hidden = F.conv2d(feature, tap.first.weight, tap.first.bias, padding=1).clamp(min=0)
    hidden = F.conv2d(hidden, tap.second.weight, tap.second.bias).clamp(min=0)
    return F.conv2d(hidden, tap.score.weight, tap.score.bias)


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize(("height", "width"), [(65, 97), (33, 129), (1, 65)])
def test_taps_land_on_the_scores(output_stride: int, height: int, width: int) -> None:
    """The strided tap is the dense one at the scores' pixels; the network may have been built at another stride."""
    segmentor = randomized(network(dense_evaluation=False)).eval()
    segmentor.set_output_stride(output_stride)
    head = taps_of(segmentor)
    assert head.stride == output_stride
    with torch.no_grad():
        features = segmentor.backbone(noise(height, width) / 255)
        total = head.head(features)
        assert total.shape[-2:] == ((height - 1) // output_stride + 1, (width - 1) // output_stride + 1)
        for spec, feature, tap in zip(segmentor.backbone.features, features, head.taps, strict=False):
            every = output_stride // spec.stride
            total = total + perceptron(tap, feature)[..., ::every, ::every]
        torch.testing.assert_close(head(features), total)


def test_strides_of_the_released_net() -> None:
    """8, 4, 2, 1, 1 at output stride 8 (data, pool1 … pool4)."""
    head = taps_of(network())
    sizes = [321, 161, 81, 41, 41]
    assert [tap._window(size, 41) for tap, size in zip(head.taps, sizes, strict=True)] == [
        (stride, 1, 1) for stride in (8, 4, 2, 1, 1)
    ]


def test_dense_evaluation_interpolates_every_score_map(oracle: Oracle) -> None:
    """×1/2/4/8/8 for the taps and ×8 for fc8, then the sum."""
    segmentor = randomized(network()).eval()
    head = taps_of(segmentor)
    assert head.stride == 1
    with torch.no_grad():
        features = segmentor.backbone(noise(33, 49) / 255)
        total = oracle["enlarged"](head.head(features), (33, 49))
        for feature, tap in zip(features, head.taps, strict=False):
            total = total + oracle["enlarged"](perceptron(tap, feature), (33, 49))
        torch.testing.assert_close(head(features), total)
        image = noise(30, 47)
        assert segmentor(image).shape == (1, 3, 30, 47)
        head.train()
        assert head(features).shape == (1, 3, 5, 7)


def test_the_papers_crop_trains_on_41_by_41_scores() -> None:
    scores = network().train()(noise(321, 321), outputs="scores")
    assert isinstance(scores, dict)
    assert scores["main"].shape == (1, 3, 41, 41)


def test_taps_on_cells_see_the_middle_of_a_score() -> None:
    """A map of stride 2 under scores of stride 8: windows of 3 around every fourth pixel, from the third on."""
    specs = (FeatureSpec(2, 2, "fine"), FeatureSpec(3, 4, "middle"), FeatureSpec(6, 8, "last"))
    head = MultiScaleTapsHead(FeatureMaps(specs, Grid.CELLS, 8), 3, head=INNER, channels=4)
    randomized(head).train()
    for module in head.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    generator = torch.Generator().manual_seed(0)
    maps = [torch.rand(1, s.channels, 48 // s.stride, 32 // s.stride, generator=generator).double() for s in specs]
    wanted = head.head(maps)
    wanted = wanted + perceptron(head.taps[0], maps[0])[..., 2::4, 2::4]
    wanted = wanted + perceptron(head.taps[1], maps[1])[..., 1::2, 1::2]
    torch.testing.assert_close(head(maps), wanted)


def test_another_backbone() -> None:
    backbone = TimmBackbone("test_resnet")
    segmentor = Segmentor(backbone=backbone, head=partial(MultiScaleTapsHead, head=INNER), num_classes=3).eval()
    assert len(taps_of(segmentor).taps) == len(backbone.features) - 1
    assert segmentor(noise(40, 61).float()).shape == (1, 3, 40, 61)


def test_initial_weights_are_the_released_nets() -> None:
    """0.001 for both hidden layers, 0.005 for the second one of the last tap, 0.01 for the scores; biases zero."""
    specs = VGG16(channels=(64, 128, 256, 512, 6)).features
    head = MultiScaleTapsHead(FeatureMaps(specs, Grid.POINTS, 8), 21, head=INNER)
    assert len(head.taps) == 5
    for index, tap in enumerate(head.taps):
        last = index == 4
        for layer, deviation in ((tap.first, 0.001), (tap.second, 0.005 if last else 0.001), (tap.score, 0.01)):
            assert float(layer.weight.detach().std()) == pytest.approx(deviation, rel=0.06)
            assert torch.count_nonzero(layer.bias) == 0
        assert tap.first.weight.shape == (128, specs[index].channels, 3, 3)
        assert tap.second.weight.shape == (128, 128, 1, 1)
        assert tap.score.weight.shape == (21, 128, 1, 1)


def test_the_network_without_taps_gives_its_weights() -> None:
    """The state dict names the wrapped head's tensors as if there were no taps, both ways."""
    plain = Segmentor(backbone=VGG16(channels=NARROW), head=INNER, num_classes=3)
    wrapped = network()
    names = set(wrapped.state_dict())
    assert set(plain.state_dict()) <= names
    assert {name.split(".")[1] for name in names - set(plain.state_dict())} == {"taps"}
    incompatible = wrapped.load_state_dict(plain.state_dict(), strict=False)
    assert incompatible.unexpected_keys == []
    assert all(".taps." in name for name in incompatible.missing_keys)
    assert torch.equal(taps_of(wrapped).head.fc6.weight, plain.head.fc6.weight)
    again = network()
    again.load_state_dict(randomized(wrapped).state_dict())
    for name, parameter in wrapped.named_parameters():
        torch.testing.assert_close(again.get_parameter(name).double(), parameter, rtol=1e-6, atol=1e-7)


def test_a_copy_saves_and_loads_too() -> None:
    one, other = network(), copy.deepcopy(network())
    assert list(one.state_dict()) == list(other.state_dict())
    randomized(one).float()
    other.load_state_dict(one.state_dict())
    assert all(torch.equal(*pair) for pair in zip(one.parameters(), other.parameters(), strict=True))
    assert taps_of(other).state_dict().keys() == {
        name.removeprefix("head.") for name in one.state_dict() if name.startswith("head.")
    }


def test_only_new_weights_train() -> None:
    segmentor = network()
    train_only(segmentor, ["head.taps"])
    names = {name for name, parameter in segmentor.named_parameters() if parameter.requires_grad}
    assert names == {name for name, _ in segmentor.named_parameters() if name.startswith("head.taps.")}
    assert len(names) == 5 * 6
    assert [group["name"] for group in parameter_groups(segmentor, 0.001, weight_decay=5e-4)] == [
        "head",
        "head_no_decay",
    ]


def test_inherited_layers_are_those_of_the_wrapped_head() -> None:
    backbone = VGG16(channels=NARROW)
    shapes = {"fc6.weight": (9, 6, 7, 7), "fc6.bias": (9,), "fc7.weight": (9, 9, 1, 1), "fc7.bias": (9,)}
    backbone.classifier = {name: torch.randn(shape) for name, shape in shapes.items()}
    biases = backbone.classifier["fc6.bias"].tolist()
    segmentor = Segmentor(backbone=backbone, head=partial(MultiScaleTapsHead, head=INNER), num_classes=3)
    head = taps_of(segmentor)
    assert head.pretrained_names == ("head.fc6", "head.fc7")
    assert set(head.head.fc6.bias.tolist()) <= set(biases)
    other = Segmentor(backbone=TimmBackbone("test_resnet"), head=partial(MultiScaleTapsHead, head=INNER), num_classes=3)
    assert other.head.pretrained_names == ()


def test_refusals() -> None:
    with pytest.raises(AtrousError, match=r"need maps of stride 8 or less before the last one, .* has strides 8$"):
        MultiScaleTapsHead(FeatureMaps((FeatureSpec(6, 8, "only"),), Grid.POINTS, 8), 3, head=INNER)
    with pytest.raises(AtrousError, match=r"ratio=8 does not fit this head, whose scores have stride 1"):
        Segmentor(
            backbone=VGG16(channels=NARROW),
            head=partial(MultiScaleTapsHead, head=INNER),
            num_classes=3,
            upsampler=partial(Deconvolution, ratio=8),
        )


def test_every_parameter_gets_a_gradient_and_the_features_stay() -> None:
    segmentor = randomized(network(dropout=0.1)).train()
    head = taps_of(segmentor)
    features = [feature.detach() for feature in segmentor.backbone(noise(65, 65, batch=2) / 255)]
    copies = [feature.clone() for feature in features]
    head(features).square().sum().backward()
    assert [n for n, p in head.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
    assert all(torch.equal(*pair) for pair in zip(features, copies, strict=True))
