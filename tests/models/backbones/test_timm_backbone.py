"""Taps, specifications and refusals of the timm adapter."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from atrous.errors import AtrousError
from atrous.models.backbones import TimmBackbone

CONFIGS = Path(__file__).resolve().parents[3] / "conf" / "backbone"
# deeper forms of others that are tried as well
DEEP = ("resnet101", "xception65", "xception71")
TAPPED = [
    pytest.param(path, marks=pytest.mark.long if path.stem in DEEP else (), id=path.stem)
    for path in sorted(CONFIGS.glob("*.yaml"))
    if path.stem not in ("auto_deeplab", "timm", "vgg16")
]


def configured(path: Path, output_stride: int = 16) -> TimmBackbone:
    config = OmegaConf.load(path)
    return TimmBackbone(config.name, output_stride=output_stride, taps=config.get("taps"))


def noise(batch: int, height: int, width: int) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("path", TAPPED)
@pytest.mark.parametrize("training", [False, True])
def test_taps_are_what_their_layers_put_out(path: Path, training: bool) -> None:
    """Nothing after a tap may change the tapped tensor, in training or in evaluation."""
    backbone = configured(path).train(training)
    copies: dict[str, tuple[Tensor, int]] = {}
    for spec in backbone.features:

        def keep(module: nn.Module, inputs: object, output: Tensor, name: str = spec.name) -> None:
            copies[name] = (output.detach().clone(), output._version)

        backbone.network.get_submodule(spec.name).register_forward_hook(keep)
    for spec, feature in zip(backbone.features, backbone(noise(2, 65, 65)), strict=True):
        copy, version = copies[spec.name]
        assert torch.equal(feature, copy), spec.name
        assert feature._version == version, spec.name


@pytest.mark.parametrize(("depth", "low_level"), [("41", "blocks.1"), ("65", "blocks.1"), ("71", "blocks.2")])
def test_xception_taps_are_those_of_the_authors(depth: str, low_level: str) -> None:
    """entry_flow/block2 (128 s2, 256 s2): second separable convolution, 256 channels at stride 4, before its ReLU."""
    backbone = configured(CONFIGS / f"xception{depth}.yaml")
    spec = backbone.features[1]
    assert (spec.channels, spec.stride) == (256, 4)
    assert spec.name == f"{low_level}.stack.conv2"
    features = backbone.eval()(noise(1, 65, 97))
    assert features[1].shape == (1, 256, 17, 25)
    assert features[1].min() < 0
    assert features[-1].shape == (1, 2048, 5, 7)


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        # channels at strides 4 and 32 of the undilated network: ResNet table 1, MobileNetV2 table 2, Xception as D2
        ("resnet18", (64, 512)),
        ("resnet50", (256, 2048)),
        ("resnet101", (256, 2048)),
        ("mobilenetv2", (24, 320)),
        ("mobilenetv2_050", (16, 160)),
        ("efficientnet_lite0", (24, 320)),
    ],
)
def test_low_and_high_level_channels_are_the_papers(stem: str, expected: tuple[int, int]) -> None:
    backbone = configured(CONFIGS / f"{stem}.yaml")
    low = [spec.channels for spec in backbone.features if spec.stride == 4]
    assert low == [expected[0]]
    assert backbone.features[-1].channels == expected[1]
    assert [spec.stride for spec in backbone.features] == [2, 4, 8, 16, 16]


def test_input_statistics_are_those_of_the_weights() -> None:
    assert configured(CONFIGS / "efficientnet_lite0.yaml").mean == (0.5, 0.5, 0.5)
    assert configured(CONFIGS / "efficientnet_lite0.yaml").std == (0.5, 0.5, 0.5)
    assert configured(CONFIGS / "xception41.yaml").mean == (0.5, 0.5, 0.5)
    assert configured(CONFIGS / "resnet18.yaml").mean == (0.485, 0.456, 0.406)
    assert configured(CONFIGS / "resnet18.yaml").std == (0.229, 0.224, 0.225)


def test_layers_behind_the_last_tap_are_gone() -> None:
    names = {name.split(".")[0] for name, _ in configured(CONFIGS / "mobilenetv2.yaml").network.named_parameters()}
    assert names == {"conv_stem", "bn1", "blocks"}


def test_features_are_those_of_timm_at_the_native_stride() -> None:
    backbone = TimmBackbone("test_efficientnet", output_stride=32).eval()
    theirs = timm.create_model("test_efficientnet", features_only=True).eval()
    theirs.load_state_dict(backbone.network.state_dict())
    image = noise(2, 64, 96)
    with torch.no_grad():
        for one, other in zip(backbone(image), theirs(image), strict=True):
            assert torch.equal(one, other)


def test_own_taps() -> None:
    backbone = TimmBackbone("test_resnet", taps=["layer1.0.conv1", "layer3"])
    assert [(spec.name, spec.stride) for spec in backbone.features] == [("layer1.0.conv1", 4), ("layer3", 16)]
    assert not [name for name, _ in backbone.network.named_parameters() if name.startswith("layer4")]


def test_a_missing_tap_is_named_with_its_neighbors() -> None:
    with pytest.raises(AtrousError, match=r"'test_resnet' has no layer 'layer9'.*backbone\.taps.*layer[1-4]"):
        TimmBackbone("test_resnet", taps=["layer1", "layer9"])


def test_an_unknown_model_is_refused_with_a_suggestion() -> None:
    with pytest.raises(AtrousError, match=r"timm knows no model 'resnet5'; did you mean resnet50"):
        TimmBackbone("resnet5")


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "test_vit", "swin_tiny_patch4_window7_224", "selecsls42"])
def test_models_without_feature_maps_are_refused(name: str) -> None:
    with pytest.raises(AtrousError, match=rf"{name}'.*feature maps.*choose a convolutional model"):
        TimmBackbone(name)


def test_a_model_that_needs_even_sizes_lies_on_a_grid_of_cells() -> None:
    backbone = TimmBackbone("dla34", output_stride=16)
    assert backbone.grid == "cells"
    assert backbone(noise(2, 64, 80))[-1].shape[-2:] == (4, 5)


def test_features_do_not_outlive_the_call() -> None:
    """A backbone that kept its last maps would hold their memory between steps and carry them into copies."""
    backbone = TimmBackbone("test_resnet")
    backbone(noise(2, 33, 33))
    assert backbone._taken == {}
