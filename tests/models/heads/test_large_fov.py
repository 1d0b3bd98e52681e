"""The head of DeepLabv1: its variants, and what it takes from VGG-16's classifier."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atrous.errors import AtrousError
from atrous.geometry import Grid
from atrous.models.backbones import VGG16, FeatureMaps, FeatureSpec, TimmBackbone
from atrous.models.heads.large_fov import LargeFOVHead, decimate
from atrous.models.segmentor import Segmentor

SPECS = (FeatureSpec(5, 4, "low"), FeatureSpec(6, 8, "high"))
# v1 table 2: kernel, rate, channels, field of view in pixels, parameters in millions with VGG-16 and 21 classes
TABLE = [(7, 4, 4096, 224, 134.3), (4, 4, 4096, 128, 65.1), (4, 8, 4096, 224, 65.1), (3, 12, 1024, 224, 20.5)]


def built(
    *,
    features: Sequence[FeatureSpec] = SPECS,
    grid: Grid = Grid.POINTS,
    output_stride: int = 8,
    num_classes: int = 3,
    **options: Any,
) -> LargeFOVHead:
    torch.manual_seed(1)
    maps_of_backbone = FeatureMaps(tuple(features), grid, output_stride)
    return LargeFOVHead(maps_of_backbone, num_classes, **{"channels": 7, **options}).double()


def maps(height: int = 31, width: int = 27) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, s.channels, height, width, generator=generator, dtype=torch.float64) for s in SPECS]


@pytest.mark.parametrize(("kernel", "rate", "channels", "field", "millions"), TABLE)
def test_parameters_of_table_2(kernel: int, rate: int, channels: int, field: int, millions: float) -> None:
    with torch.device("meta"):
        backbone = VGG16()
        head = LargeFOVHead(backbone.maps, 21, kernel=kernel, rate=rate, channels=channels)
    total = sum(p.numel() for module in (backbone, head) for p in module.parameters())
    assert total / 1e6 == pytest.approx(millions, abs=0.06)


@pytest.mark.parametrize(("kernel", "rate", "channels", "field", "millions"), TABLE)
@pytest.mark.parametrize("output_stride", [8, 16])
def test_field_of_view_of_table_2(
    kernel: int, rate: int, channels: int, field: int, millions: float, output_stride: int
) -> None:
    """From the first to the last feature that a score sees, and the 32 pixels of one of VGG-16's own pool5."""
    head = built(kernel=kernel, rate=rate, output_stride=output_stride).eval()
    features = [torch.rand(1, s.channels, 31, 31, dtype=torch.float64, requires_grad=True) for s in SPECS]
    head(features)[0, 0, 15, 15].backward()
    gradient = features[-1].grad
    assert gradient is not None
    seen = gradient.abs().sum(dim=(0, 1, 3)).nonzero()
    assert (int(seen.max()) - int(seen.min())) * output_stride + 32 == field
    assert int(seen.max()) + int(seen.min()) == 30
    assert len(seen) == kernel


def expected(head: LargeFOVHead, feature: Tensor, rate: int) -> Tensor:
    """The filter with zeros between its taps, then matrix products."""
    kernel = head.kernel
    holes = torch.zeros(*head.fc6.weight.shape[:2], *((kernel - 1) * rate + 1,) * 2, dtype=feature.dtype)
    holes[..., ::rate, ::rate] = head.fc6.weight
    before = (kernel - 1) * rate // 2
    after = (kernel - 1) * rate - before
    hidden = F.conv2d(F.pad(feature, (before, after, before, after)), holes, head.fc6.bias).clamp(min=0)
    hidden = torch.einsum("bchw,kc->bkhw", hidden, head.fc7.weight[..., 0, 0]) + head.fc7.bias.view(1, -1, 1, 1)
    hidden = hidden.clamp(min=0)
    return torch.einsum("bchw,kc->bkhw", hidden, head.fc8.weight[..., 0, 0]) + head.fc8.bias.view(1, -1, 1, 1)


@pytest.mark.parametrize(("kernel", "rate"), [(7, 4), (4, 4), (4, 8), (3, 12), (1, 1), (2, 4)])
def test_scores_are_those_of_plain_convolutions(kernel: int, rate: int) -> None:
    head = built(kernel=kernel, rate=rate).eval()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.uniform_(-0.5, 0.5)
        for output_stride in (8, 16, 32):
            head.set_output_stride(output_stride)
            assert head.stride == output_stride
            scores = head(maps())
            assert scores.shape == (2, 3, 31, 27)
            torch.testing.assert_close(scores, expected(head, maps()[-1], max(1, rate * 8 // output_stride)))


def test_scores_of_the_papers_crop() -> None:
    """321 pixels have 41×41 scores at output stride 8."""
    backbone = VGG16(channels=(2, 2, 2, 2, 6), average_pool=True)
    network = Segmentor(backbone=backbone, head=partial(LargeFOVHead, channels=7), num_classes=3).eval()
    with torch.no_grad():
        scores = network(torch.zeros(1, 3, 321, 321), outputs="scores")
        assert isinstance(scores, dict)
        assert scores["main"].shape == (1, 3, 41, 41)
        assert network(torch.zeros(1, 3, 40, 63)).shape == (1, 3, 40, 63)


def classifier(filters: int = 12, outputs: int = 12) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    shapes = {"fc6.weight": (filters, 6, 7, 7), "fc6.bias": (filters,), "fc7.weight": (outputs, filters, 1, 1)}
    shapes |= {"fc7.bias": (outputs,)}
    return {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}


@pytest.mark.parametrize(("kernel", "taps"), [(7, range(7)), (4, (0, 2, 4, 6)), (3, (0, 3, 6)), (1, (3,))])
@pytest.mark.parametrize("channels", [12, 5])
def test_subsampled_weights_are_weights_of_the_classifier(kernel: int, taps: Any, channels: int) -> None:
    """Tap by tap and filter by filter; fc7 sees the filters that fc6 kept."""
    whole = classifier()
    small = decimate(whole, kernel=kernel, channels=channels)
    middle = [int((whole["fc6.bias"] == bias).nonzero()) for bias in small["fc6.bias"]]
    outer = [int((whole["fc7.bias"] == bias).nonzero()) for bias in small["fc7.bias"]]
    assert len(set(middle)) == len(set(outer)) == channels
    if channels == 12:
        assert middle == outer == list(range(12))
    for i, filter_ in enumerate(middle):
        for row, tap_row in enumerate(taps):
            for column, tap_column in enumerate(taps):
                wanted = whole["fc6.weight"][filter_, :, tap_row, tap_column] * 49 / kernel**2
                torch.testing.assert_close(small["fc6.weight"][i, :, row, column], wanted)
    for i, output in enumerate(outer):
        for j, filter_ in enumerate(middle):
            wanted = whole["fc7.weight"][output, filter_] * 12 / channels
            torch.testing.assert_close(small["fc7.weight"][i, j], wanted)


@pytest.mark.parametrize(("kernel", "rate"), [(3, 12), (4, 8)])
def test_taps_stay_where_the_whole_filter_has_them(kernel: int, rate: int) -> None:
    """An impulse wakes the small filter only where it wakes the 7×7 filter at rate 4, to a fixed multiple."""
    whole, head = classifier(), built(kernel=kernel, rate=rate, channels=12)
    small = decimate(whole, kernel=kernel, channels=12)
    impulse = torch.zeros(1, 6, 25, 25, dtype=torch.float64)
    impulse[0, 2, 12, 12] = 1
    wide = F.conv2d(impulse, whole["fc6.weight"], padding=12, dilation=4)
    narrow = F.conv2d(impulse, small["fc6.weight"], padding=head.fc6.padding, dilation=head.fc6.dilation)
    awake = narrow != 0
    assert int(awake[0, 0].sum()) == kernel**2
    torch.testing.assert_close(narrow[awake], wide[awake] * 49 / kernel**2)


def test_responses_keep_their_size() -> None:
    """Where what is left out equals what is kept, nothing changes; else the mean over subsets is the whole."""
    whole = classifier(400, 400)
    flat = whole | {"fc6.weight": whole["fc6.weight"][:, :, :1, :1].expand(-1, -1, 7, 7)}
    constant = torch.rand(6, dtype=torch.float64)
    small = decimate(flat, kernel=3, channels=400)
    sums = [torch.einsum("kcij,c->k", each["fc6.weight"], constant) for each in (flat, small)]
    torch.testing.assert_close(*sums)
    hidden = torch.rand(400, dtype=torch.float64)
    flat7 = torch.rand(400, 1, 1, 1, dtype=torch.float64).expand(-1, 400, -1, -1)
    estimates = []
    for seed in range(200):
        subset = decimate(whole | {"fc7.weight": flat7}, kernel=7, channels=100, seed=seed)
        kept = [int((whole["fc6.bias"] == bias).nonzero()) for bias in subset["fc6.bias"][:100]]
        outputs = [int((whole["fc7.bias"] == bias).nonzero()) for bias in subset["fc7.bias"][:1]]
        estimate = float(subset["fc7.weight"][0, :, 0, 0] @ hidden[kept])
        estimates.append(estimate / float(flat7[outputs[0], :, 0, 0] @ hidden))
    assert sum(estimates) / len(estimates) == pytest.approx(1, abs=0.02)


def vgg(**options: Any) -> VGG16:
    return VGG16(channels=(2, 2, 2, 2, 6), **options)


def test_a_network_starts_from_the_classifier() -> None:
    backbone = vgg()
    backbone.classifier = {name: tensor.float() for name, tensor in classifier().items()}
    network = Segmentor(backbone=backbone, head=partial(LargeFOVHead, channels=5), num_classes=3)
    wanted = decimate({name: tensor.float() for name, tensor in classifier().items()}, kernel=3, channels=5)
    head = network.head
    assert isinstance(head, LargeFOVHead)
    for name, tensor in wanted.items():
        assert torch.equal(head.get_parameter(name), tensor), name
    assert head.pretrained_names == ("fc6", "fc7")
    assert backbone.classifier is None


def test_the_subset_is_the_same_every_time_and_depends_on_the_seed() -> None:
    whole = classifier(200, 200)
    one, again, other = (decimate(whole, kernel=3, channels=50, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one["fc6.bias"], again["fc6.bias"])
    assert not torch.equal(one["fc6.bias"], other["fc6.bias"])
    assert not torch.equal(one["fc6.bias"], one["fc6.bias"].sort().values)


def test_without_a_classifier_layers_are_random() -> None:
    network = Segmentor(backbone=vgg(), head=partial(LargeFOVHead, channels=5), num_classes=3)
    assert network.head.pretrained_names == ("fc6", "fc7")
    other = Segmentor(backbone=TimmBackbone("test_resnet"), head=partial(LargeFOVHead, channels=5), num_classes=3)
    assert other.head.pretrained_names == ()
    assert other(torch.zeros(1, 3, 33, 20)).shape == (1, 3, 33, 20)


def test_fc8_starts_normal_with_a_deviation_of_0_01() -> None:
    head = built(channels=1024, num_classes=21)
    assert float(head.fc8.weight.detach().std()) == pytest.approx(0.01, rel=0.05)
    assert torch.count_nonzero(head.fc8.bias) == 0


@pytest.mark.parametrize("options", [{"kernel": 8}, {"channels": 13}])
def test_more_than_the_classifier_has(options: dict[str, int]) -> None:
    with pytest.raises(AtrousError, match=r"larger than that of the pretrained VGG-16 \(7 and 12\)"):
        decimate(classifier(), **{"kernel": 3, "channels": 5, **options})


@pytest.mark.parametrize("name", ["kernel", "rate", "channels"])
def test_refusals(name: str) -> None:
    with pytest.raises(AtrousError, match=rf"model.head.{name}=0 must be at least 1"):
        built(**{name: 0})


@pytest.mark.parametrize("kernel", [3, 4])
def test_every_parameter_gets_a_gradient_and_the_features_stay(kernel: int) -> None:
    head = built(kernel=kernel, rate=4, dropout=0.1).train()
    features = maps()
    copies = [feature.clone() for feature in features]
    head(features).square().sum().backward()
    assert [n for n, p in head.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
    assert all(torch.equal(*pair) for pair in zip(features, copies, strict=True))


def test_dropout_behind_both_hidden_layers_in_training_only() -> None:
    head = built(channels=64)
    zeros: list[float] = []
    for layer in (head.fc7, head.fc8):
        layer.register_forward_pre_hook(lambda module, inputs: zeros.append(float((inputs[0] == 0).double().mean())))
    with torch.no_grad():
        nn.init.constant_(head.fc6.bias, 100)
        nn.init.constant_(head.fc7.bias, 1e4)
        head.train()(maps())
        assert zeros == [pytest.approx(0.5, abs=0.02)] * 2
        assert torch.equal(head.eval()(maps()), head(maps()))
        assert zeros[2:] == [0.0] * 4
