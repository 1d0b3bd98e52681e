"""The same weights compute the same features at every output stride, only more densely."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from omegaconf import OmegaConf
from timm.layers.squeeze_excite import SEModule
from torch import Tensor, nn

from atrous.errors import AtrousError
from atrous.geometry import Grid
from atrous.models.backbones import TimmBackbone
from atrous.models.heads import DeepLabV3PlusHead

Compare = Callable[[Tensor, Tensor], float]
Randomize = Callable[[nn.Module], nn.Module]

CONFIGS = sorted((Path(__file__).resolve().parents[3] / "conf" / "backbone").glob("*.yaml"))
# architectures with strided pooling, even kernels, poolings in the shortcut, and concatenation
OTHERS = ("regnety_002", "convnext_atto", "densenet121", "resnet50d", "test_byobnet")
TOLERANCE = 1e-10
# deeper forms of others that are tried as well
DEEP = ("resnet101", "xception65", "xception71")
EVERY = [
    pytest.param(path, marks=pytest.mark.long if path.stem in DEEP else (), id=path.stem)
    for path in CONFIGS
    if path.stem not in ("auto_deeplab", "timm", "vgg16")
]


def built(choice: str | Path, output_stride: int = 32) -> TimmBackbone:
    """The backbone of a configuration file, or of a timm name as ``backbone=timm`` takes it."""
    if isinstance(choice, str):
        return TimmBackbone(choice, output_stride=output_stride)
    config = OmegaConf.load(choice)
    return TimmBackbone(config.name, output_stride=output_stride, taps=config.get("taps"))


def noise(height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, 3, height, width, generator=generator, dtype=torch.float64)


def without_image_statistics(backbone: nn.Module) -> None:
    """Take squeeze-and-excitation out: its mean over the map has more samples at a smaller output stride."""
    for name, layer in list(backbone.named_modules()):
        if isinstance(layer, SEModule):
            backbone.set_submodule(name, nn.Identity())


@pytest.mark.parametrize("choice", [*EVERY, *(pytest.param(name, id=name) for name in OTHERS)])
def test_same_weights_agree_on_the_common_grid(choice: str | Path, randomize: Randomize, difference: Compare) -> None:
    backbone = built(choice)
    without_image_statistics(backbone)
    randomize(backbone)
    extra = 1 if backbone.grid is Grid.POINTS else 0
    image = noise(64 + extra, 96 + extra)
    with torch.no_grad():
        sparse = backbone(image)
        for output_stride in (16, 8):
            backbone.set_output_stride(output_stride)
            for at_32, now, spec in zip(sparse, backbone(image), backbone.features, strict=True):
                step = (now.shape[-1] - extra) // (at_32.shape[-1] - extra)
                assert spec.stride * (now.shape[-1] - extra) == 96
                assert difference(now[..., ::step, ::step], at_32) < TOLERANCE, f"{spec.name} at {output_stride}"


def test_the_comparison_notices_one_wrong_rate(randomize: Randomize, difference: Compare) -> None:
    backbone = built("resnet18")
    randomize(backbone)
    image = noise(65, 97)
    with torch.no_grad():
        at_32 = backbone(image)[-1]
        backbone.set_output_stride(16)
        last = backbone.network.layer4[1].conv2
        assert last.dilation == (2, 2)
        last.dilation, last.padding = (1, 1), (1, 1)
        assert difference(backbone(image)[-1][..., ::2, ::2], at_32) > 1e-3


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "xception41", "mobilenetv2_100", "tf_efficientnet_lite0"])
@pytest.mark.parametrize("output_stride", [16, 8])
def test_rates_are_those_of_timm(name: str, output_stride: int, randomize: Randomize, difference: Compare) -> None:
    backbone = built(name, output_stride)
    randomize(backbone)
    theirs = timm.create_model(name, output_stride=output_stride, features_only=True, out_indices=(-1,))
    ours = {key.replace(".", "_"): value for key, value in backbone.network.state_dict().items()}
    theirs.load_state_dict({key: ours[key.replace(".", "_")] for key in theirs.state_dict()})
    image = noise(65, 97)
    with torch.no_grad():
        assert difference(backbone(image)[-1], theirs.double().eval()(image)[-1]) < TOLERANCE


@pytest.mark.parametrize("name", ["mobilenetv2_050", "convnext_atto", "resnet50d"])
def test_changing_back_and_forth_leaves_no_trace(name: str, randomize: Randomize) -> None:
    wanderer = built(name, 8)
    randomize(wanderer)
    before = {key: value.clone() for key, value in wanderer.state_dict().items()}
    wanderer.set_output_stride(32)
    wanderer.set_output_stride(16)
    after = wanderer.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[key], after[key]) for key in before)
    fresh = built(name, 16)
    fresh.load_state_dict(after)
    fresh.double().eval()
    image = noise(65, 97)
    with torch.no_grad():
        for one, other in zip(wanderer(image), fresh(image), strict=True):
            assert torch.equal(one, other)


def test_specs_follow_the_output_stride() -> None:
    backbone = built("test_resnet", 16)
    assert [spec.stride for spec in backbone.features] == [2, 4, 8, 16, 16]
    backbone.set_output_stride(8)
    assert [spec.stride for spec in backbone.features] == [2, 4, 8, 8, 8]
    assert backbone.output_stride == 8
    for spec, feature in zip(backbone.features, backbone(torch.zeros(2, 3, 65, 97)), strict=True):
        assert feature.shape == (2, spec.channels, 64 // spec.stride + 1, 96 // spec.stride + 1)


def test_impossible_output_strides_are_refused_and_change_nothing() -> None:
    backbone = built("test_resnet", 16)
    with pytest.raises(AtrousError, match="output stride 12 is impossible for backbone 'test_resnet'; valid are 8, 16"):
        backbone.set_output_stride(12)
    with pytest.raises(AtrousError, match=r"output stride 4 .*valid are 8, 16, 32"):
        TimmBackbone("test_resnet", output_stride=4)
    assert backbone.output_stride == 16


def test_a_layer_that_cannot_be_dilated_is_named_and_the_backbone_still_works() -> None:
    blurred = built("resnetblur18", 32)
    image = torch.randn(1, 3, 65, 65, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = blurred.eval()(image)
        for output_stride in (16, 8):
            with pytest.raises(AtrousError, match=rf"output stride {output_stride} is impossible.*layer4?.*BlurPool2d"):
                blurred.set_output_stride(output_stride)
            assert blurred.output_stride == 32
            assert all(torch.equal(*pair) for pair in zip(before, blurred(image), strict=True))


def test_branches_that_no_longer_fit_together_are_refused_and_the_backbone_still_works() -> None:
    backbone = built("legacy_xception", 16)
    with pytest.raises(AtrousError, match=r"output stride 8 is impossible for backbone 'legacy_xception'.*larger"):
        backbone.set_output_stride(8)
    assert [spec.stride for spec in backbone.features] == [2, 4, 8, 16, 16]
    with torch.no_grad():
        assert backbone.eval()(torch.zeros(1, 3, 64, 64))[-1].shape[-1] == 4


def test_a_copy_is_independent() -> None:
    backbone = built("test_resnet", 16).eval()
    twin = copy.deepcopy(backbone)
    image = torch.randn(1, 3, 65, 65, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = backbone(image)
        assert all(torch.equal(*pair) for pair in zip(before, twin(image), strict=True))
        twin.set_output_stride(8)
        for parameter in twin.parameters():
            parameter.zero_()
        assert twin(image)[-1].shape[-1] == 9
        assert backbone.output_stride == 16
        assert all(torch.equal(*pair) for pair in zip(before, backbone(image), strict=True))


@pytest.mark.parametrize("choice", EVERY)
def test_every_parameter_gets_a_gradient_through_the_head(choice: Path) -> None:
    torch.manual_seed(0)
    backbone = built(choice, 16)
    head = DeepLabV3PlusHead(backbone.maps, 3)
    for name, parameter in backbone.named_parameters():
        if parameter.ndim == 1 and not name.endswith("bias"):
            nn.init.ones_(parameter)  # residual branches start at zero, and pass no gradient then
    head(backbone(torch.randn(2, 3, 65, 65))).square().sum().backward()
    for part in (backbone, head):
        without = [name for name, p in part.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert without == []
        assert all(bool(torch.isfinite(p.grad).all()) for p in part.parameters() if p.grad is not None)
