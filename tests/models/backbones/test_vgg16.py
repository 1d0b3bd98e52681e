"""VGG-16: geometry of the released DeepLab nets, and weights of other people's files."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers

from atrous.errors import AtrousError
from atrous.models.backbones import VGG16

Compare = Callable[[Tensor, Tensor], float]
Randomize = Callable[[nn.Module], nn.Module]

NARROW = (3, 4, 5, 6, 7)
PAPER = (64, 128, 256, 512, 512)


def noise(height: int, width: int, batch: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, 3, height, width, generator=generator, dtype=torch.float64)


def narrow(**options: Any) -> VGG16:
    torch.manual_seed(0)
    return VGG16(**{"channels": NARROW, **options})


def torchvision_layers(channels: tuple[int, ...] = NARROW) -> nn.Sequential:
    """torchvision's VGG-16 of other widths."""
    width = dict(zip(PAPER[:4], channels[:4], strict=True))
    sizes = [size if isinstance(size, str) else width[size] for size in cfgs["D"]]
    sizes[-4:-1] = [channels[4]] * 3
    layers: nn.Sequential = make_layers(sizes)
    return layers


def narrow_file(folder: Path, layout: str) -> tuple[Path, dict[str, Tensor]]:
    """A complete state dict in torchvision's or timm's names, with 11 and 9 filters in place of twice 4096."""
    torch.manual_seed(3)
    state = {f"features.{name}": tensor for name, tensor in torchvision_layers().state_dict().items()}
    fc6, fc7, fc8 = nn.Conv2d(7, 11, 7), nn.Conv2d(11, 9, 1), nn.Linear(9, 5)
    if layout == "timm":
        parts: dict[str, nn.Module] = {"pre_logits.fc1": fc6, "pre_logits.fc2": fc7, "head.fc": fc8}
    else:
        flat6, flat7 = nn.Linear(7 * 49, 11), nn.Linear(11, 9)
        flat6.load_state_dict({"weight": fc6.weight.flatten(1), "bias": fc6.bias})
        flat7.load_state_dict({"weight": fc7.weight.flatten(1), "bias": fc7.bias})
        parts = {"classifier.0": flat6, "classifier.3": flat7, "classifier.6": fc8}
    for name, module in parts.items():
        state |= {f"{name}.{kind}": tensor for kind, tensor in module.state_dict().items()}
    path = folder / f"{layout}.pth"
    torch.save(state, path)
    expected = {f"fc6.{k}": v for k, v in fc6.state_dict().items()} | {
        f"fc7.{k}": v for k, v in fc7.state_dict().items()
    }
    return path, expected


def plain_forward(layers: nn.Sequential, image: Tensor, pools: str, output_stride: int, average: bool) -> list[Tensor]:
    """The released net from torchvision's convolutions: pools and rates written out (FACTS: CAFv1), one by one."""
    large = pools == "3x3"
    maps, stage, feature = [image], 1, image
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            rate = 2 if stage == 5 and output_stride == 8 else 1
            feature = F.conv2d(feature, layer.weight, layer.bias, padding=rate, dilation=rate)
        elif isinstance(layer, nn.ReLU):
            feature = feature.clamp(min=0)
        else:
            kernel = 3 if large or stage == 5 else 2
            before, after = (1, 1) if kernel == 3 else (0, 1) if stage == 4 else (1, 0)
            step = 2 if 2**stage <= output_stride else 1
            feature = F.max_pool2d(F.pad(feature, (before, after) * 2, value=-torch.inf), kernel, step)
            if stage == 5 and average:
                box = torch.full((feature.shape[1], 1, 3, 3), 1 / 9, dtype=feature.dtype)
                feature = F.conv2d(feature, box, padding=1, groups=feature.shape[1])
            maps.append(feature)
            stage += 1
    return maps


@pytest.mark.parametrize("pools", ["3x3", "2x2"])
@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("average", [False, True])
def test_maps_are_those_of_torchvisions_layers(
    pools: str, output_stride: int, average: bool, tmp_path: Path, difference: Compare
) -> None:
    """Order of layers, weights by name, rates, strides and windows at once."""
    path, _ = narrow_file(tmp_path, "torchvision")
    backbone = narrow(pretrained=str(path), pools=pools, output_stride=output_stride, average_pool=average).double()
    theirs = torchvision_layers()
    theirs.load_state_dict(
        {k.removeprefix("features."): v for k, v in torch.load(path).items() if k.startswith("features.")}
    )
    image = noise(65, 97)
    with torch.no_grad():
        wanted = plain_forward(theirs.double(), image, pools, output_stride, average)
        for ours, other, spec in zip(backbone(image), wanted, backbone.features, strict=True):
            assert ours.shape == (1, spec.channels, 64 // spec.stride + 1, 96 // spec.stride + 1), spec
            assert difference(ours, other) < 1e-10, spec


def test_features_of_the_papers_net() -> None:
    with torch.device("meta"):
        backbone = VGG16(average_pool=True)
    specs = [(s.name, s.channels, s.stride) for s in backbone.features]
    assert specs == [
        ("image", 3, 1), ("pool1", 64, 2), ("pool2", 128, 4), ("pool3", 256, 8), ("pool4", 512, 8), ("pool5a", 512, 8),
    ]  # fmt: skip
    rates = {n: m.dilation for n, m in backbone.layers.named_children() if isinstance(m, nn.Conv2d | nn.MaxPool2d)}
    dilated = {name for name, rate in rates.items() if rate not in (1, (1, 1))}
    assert dilated == {"conv5_1", "conv5_2", "conv5_3"}
    assert {rates[name] for name in dilated} == {(2, 2)}
    # 14.7 million: 134.3 less fc6 (4096·512·49 + 4096), fc7 (4096² + 4096) and fc8 (21·4096 + 21)
    assert sum(p.numel() for p in backbone.parameters()) == 14_714_688


@pytest.mark.parametrize("pools", ["3x3", "2x2"])
def test_weights_agree_on_the_common_grid(pools: str, randomize: Randomize, difference: Compare) -> None:
    """Up to conv5 at every output stride; pool5 too between 32 and 16, but not 8, where its windows stay narrow."""
    backbone = narrow(pools=pools)
    randomize(backbone)
    image = noise(97, 129)
    taken: dict[str, Tensor] = {}
    backbone.layers.relu5_3.register_forward_hook(lambda module, inputs, output: taken.update(conv5=output))
    conv5, pool5, pool4 = {}, {}, {}
    with torch.no_grad():
        for output_stride in (8, 32, 16):
            backbone.set_output_stride(output_stride)
            maps = backbone(image)
            conv5[output_stride], pool4[output_stride], pool5[output_stride] = taken["conv5"], maps[-2], maps[-1]
    assert difference(conv5[8][..., ::2, ::2], conv5[16]) < 1e-10
    assert torch.equal(conv5[16], conv5[32])
    assert torch.equal(pool4[8][..., ::2, ::2], pool4[16])
    assert difference(pool5[16][..., ::2, ::2], pool5[32]) < 1e-10
    assert difference(pool5[8][..., ::2, ::2], pool5[16]) > 1e-3


@pytest.mark.parametrize("pools", ["3x3", "2x2"])
@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize(("rows", "columns"), [(0, 0), (0, 2), (1, 3)])
def test_sizes_of_the_grid(pools: str, output_stride: int, rows: int, columns: int) -> None:
    """s·k + 1 pixels have k + 1 features, down to a single pixel."""
    backbone = narrow(pools=pools, output_stride=output_stride).double()
    for feature, spec in zip(
        backbone(noise(rows * output_stride + 1, columns * output_stride + 1)), backbone.features, strict=True
    ):
        times = output_stride // spec.stride
        assert feature.shape[-2:] == (rows * times + 1, columns * times + 1), spec
        assert bool(torch.isfinite(feature).all())


@pytest.mark.parametrize(("pools", "place"), [("3x3", 0.0), ("2x2", 0.5)])
@pytest.mark.parametrize("name", ["pool4", "pool5"])
def test_where_features_lie_in_the_image(pools: str, place: float, name: str) -> None:
    """The rows that a feature sees through the poolings are centered on 8·i, or half a pixel after it."""
    backbone = narrow(pools=pools, channels=(3, 3, 3, 3, 3))
    with torch.no_grad():
        for layer in backbone.layers:
            if isinstance(layer, nn.Conv2d):  # the identity, so that poolings alone make the field of view
                layer.weight.zero_()
                layer.weight[range(3), range(3), 1, 1] = 1
        index = [spec.name for spec in backbone.features].index(name)
        one_row_each = torch.eye(161)[:, None, :, None].expand(-1, 3, -1, 9)
        seen = backbone(one_row_each)[index][:, 0, 10, 0].nonzero().flatten()
    assert len(seen) == int(seen[-1] - seen[0]) + 1
    assert (int(seen[0]) + int(seen[-1])) / 2 == 80 + place


def test_basic_net_is_caffes_on_its_crop() -> None:
    """306 = 8k + 2 pixels: Caffe rounds up, drops pool4's last window, and has 39 features (v1's released net)."""
    backbone = narrow(pools="2x2").double()
    image = noise(306, 50)
    feature = image
    with torch.no_grad():
        for name, layer in backbone.layers.named_children():
            if name == "pool4":
                break
            feature = caffe_pool(feature) if name.startswith("pool") else layer(feature)
        theirs = F.max_pool2d(feature, 2, stride=1)
        ours = backbone(image)[4]
    assert theirs.shape[-2:] == (39, 7)
    torch.testing.assert_close(ours[..., :39, :7], theirs)


def caffe_pool(feature: Tensor) -> Tensor:
    """Caffe's pooling with kernel 2, stride 2 and padding 1: rounds up, and drops a window that begins outside."""
    height, width = feature.shape[-2:]
    rows, columns = (-(-size // 2) + 1 for size in (height, width))
    rows, columns = (n - (2 * (n - 1) >= size + 1) for n, size in ((rows, height), (columns, width)))
    pooled = torch.empty(*feature.shape[:2], rows, columns, dtype=feature.dtype)
    for i in range(rows):
        for j in range(columns):
            window = feature[..., max(0, 2 * i - 1) : 2 * i + 1, max(0, 2 * j - 1) : 2 * j + 1]
            pooled[..., i, j] = window.amax(dim=(-2, -1))
    return pooled


def test_image_and_maps_are_left_unchanged() -> None:
    backbone = narrow(average_pool=True).double()
    image = noise(33, 33)
    before = image.clone()
    maps = backbone(image)
    copies = [each.detach().clone() for each in maps]
    assert maps[0] is image
    assert torch.equal(image, before)
    assert all(torch.equal(a, b) for a, b in zip(maps, copies, strict=True))
    assert all(each._version == 0 for each in maps)


def test_every_parameter_gets_a_gradient() -> None:
    backbone = narrow(channels=(8, 8, 8, 8, 8)).double()
    backbone(noise(65, 65, batch=2))[-1].square().sum().backward()
    assert [n for n, p in backbone.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("layout", ["torchvision", "timm"])
def test_weights_of_both_layouts(layout: str, tmp_path: Path) -> None:
    path, classifier = narrow_file(tmp_path, layout)
    backbone = narrow(pretrained=str(path))
    convolutions = [m for m in backbone.layers if isinstance(m, nn.Conv2d)]
    theirs = [t for n, t in torch.load(path).items() if n.startswith("features.") and n.endswith("weight")]
    assert all(torch.equal(ours.weight, other) for ours, other in zip(convolutions, theirs, strict=True))
    taken = backbone.take_classifier()
    assert taken is not None
    assert set(taken) == set(classifier)
    assert all(torch.equal(taken[name], classifier[name]) for name in classifier)
    assert backbone.take_classifier() is None


@pytest.mark.parametrize("layout", ["torchvision", "timm"])
def test_names_and_shapes_of_the_real_files(layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All 138 million parameters, as tensors that repeat one number and take no memory."""
    with torch.device("meta"):
        theirs = torchvision.models.vgg16() if layout == "torchvision" else timm.create_model("vgg16")
    state = {
        name: torch.full((1,), float(i)).expand(tensor.shape)
        for i, (name, tensor) in enumerate(theirs.state_dict().items())
    }
    monkeypatch.setattr("atrous.models.backbones.vgg16.weights_from_hub", lambda name: state)
    backbone = VGG16(pretrained=True)
    convolutions = [m for m in backbone.layers if isinstance(m, nn.Conv2d)]
    assert [float(c.weight.detach().flatten()[0]) for c in convolutions] == [float(2 * i) for i in range(13)]
    assert [float(c.bias.detach()[0]) for c in convolutions] == [float(2 * i + 1) for i in range(13)]
    assert backbone.classifier is not None
    assert {name: tuple(tensor.shape) for name, tensor in backbone.classifier.items()} == {
        "fc6.weight": (4096, 512, 7, 7),
        "fc6.bias": (4096,),
        "fc7.weight": (4096, 4096, 1, 1),
        "fc7.bias": (4096,),
    }
    assert [float(t.flatten()[0]) for t in backbone.classifier.values()] == [26.0, 27.0, 28.0, 29.0]


def test_the_classifier_is_not_saved_and_goes_with_the_first_image(tmp_path: Path) -> None:
    path, _ = narrow_file(tmp_path, "timm")
    backbone = narrow(pretrained=str(path))
    assert set(backbone.state_dict()) == set(narrow().state_dict())
    assert backbone.classifier is not None
    backbone(noise(9, 9).float())
    assert backbone.classifier is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("features.0.weight"), r"1 tensors missing \(features.0.weight\)"),
        (lambda s: s.pop("classifier.3.bias"), r"1 tensors missing \(classifier.3.bias\)"),
        (lambda s: s.update({"features.1.running_mean": torch.zeros(3)}), r"1 tensors unexpected \(features.1.running"),
        (lambda s: s.update({"features.2.weight": torch.zeros(9, 3, 3, 3)}), r"of another shape \(features.2"),
        (lambda s: s.update({"classifier.0.weight": torch.zeros(11, 7 * 25)}), r"another shape \(classifier.0.weight"),
        (lambda s: s.update({"classifier.3.weight": torch.zeros(9, 12)}), r"another shape \(classifier.3.weight"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_vgg16(change: Callable[[dict[str, Tensor]], object], message: str, tmp_path: Path) -> None:
    path, _ = narrow_file(tmp_path, "torchvision")
    state = torch.load(path)
    change(state)
    torch.save(state, path)
    with pytest.raises(AtrousError, match=r"are not those of torchvision's or timm's VGG-16: .*" + message):
        narrow(pretrained=str(path))


def test_offline_and_missing_files_are_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("atrous.models.backbones.pretrained._is_cached", lambda config: False)
    with pytest.raises(AtrousError, match=r"'vgg16' are not on this machine .*set backbone.pretrained=false"):
        narrow(pretrained=True)
    with pytest.raises(AtrousError, match="which is not a file"):
        narrow(pretrained=str(tmp_path / "none.pth"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output_stride": 4}, r"output stride 4 is impossible for VGG-16; valid are 8, 16, 32"),
        ({"pools": "4x4"}, r"backbone.pools='4x4' is unknown; choose 3x3 or 2x2"),
        ({"channels": (4, 4, 4, 4, 0)}, r"backbone.channels=\(4, 4, 4, 4, 0\) must be at least 1 each"),
        ({"channels": (3, 4)}, r"backbone.channels=\[3, 4\] must have a value for each of conv1 to conv5"),
    ],
)
def test_refusals(options: dict[str, Any], message: str) -> None:
    with pytest.raises(AtrousError, match=message):
        narrow(**options)


def test_statistics_are_those_of_torchvisions_weights() -> None:
    transform = torchvision.models.VGG16_Weights.IMAGENET1K_V1.transforms()
    backbone = narrow()
    assert backbone.mean == tuple(transform.mean)
    assert backbone.std == tuple(transform.std)


def test_channels_follow_each_other() -> None:
    widths = [(m.in_channels, m.out_channels) for m in narrow().layers if isinstance(m, nn.Conv2d)]
    assert all(before[1] == after[0] for before, after in pairwise(widths))
    assert [w for _, w in widths] == [3, 3, 4, 4, 5, 5, 5, 6, 6, 6, 7, 7, 7]
