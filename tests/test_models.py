"""What every model of ``conf/model`` must do, on a backbone that stands for its kind."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

import atrous
from atrous.composition.parts import build_segmentor
from atrous.models.segmentor import Segmentor

MODELS = atrous.list_models()
CLASSES = 5
# Down, up and straight on, every operation that computes something, and inputs of every kind, in 4 layers of 12.
CELL = "[[max_pooling_3x3,l-1],[separable_5x5,l-2]],[[skip,l-1],[atrous_3x3,block 1]],\
[[average_pooling_3x3,l-2],[separable_3x3,block 2]],[[skip,l-2],[atrous_5x5,l-1]]"
# The backbone that stands for the kind, and widths and depths that keep a test below seconds.
CASES: dict[str, list[str]] = {
    "auto_deeplab": [
        "backbone.genotype.strides=[4,8,8,4]",
        f"backbone.genotype.blocks=[{CELL}]",
        "backbone.size=2",
        "backbone.stem=[4,4,8]",
        "model.head.aspp_channels=16",
        "model.head.decoder_channels=16",
    ],
    "deeplabv1": ["backbone=vgg16", "backbone.channels=[4,8,8,16,16]", "model.head.channels=16"],
    "deeplabv1_msc": ["backbone=vgg16", "backbone.channels=[4,8,8,16,16]", "model.head.head.channels=16"],
    "deeplabv2": ["backbone=resnet18", "backbone.output_stride=8", "model.scales=[1.0,0.5]"],
    "deeplabv3": ["backbone=resnet18", "model.multi_grid=[1,2]", "model.head.aspp_channels=16"],
    "deeplabv3_cascade": ["backbone=resnet18", "model.multi_grid=[1,2]", "model.head.blocks=1"],
    "deeplabv3plus": ["backbone=mobilenetv2_050", "model.head.aspp_channels=16", "model.head.decoder_channels=16"],
    "dupsampling": [
        "backbone=mobilenetv2_050",
        "model.head.aspp_channels=16",
        "model.head.decoder_channels=16",
        "upsampler.width=8",
        "upsampler.weights=random",
    ],
    "hdc_duc": ["backbone=resnet18"],
}
SIZES = [(65, 97), (70, 51), (33, 128), (16, 9)]

Compose = Callable[..., DictConfig]


def test_every_model_has_a_case() -> None:
    assert sorted(CASES) == MODELS


@pytest.mark.parametrize("model", MODELS)
def test_every_model_needs_no_other_choice(model: str, composed: Compose) -> None:
    """On the default backbone, whose stages have two units, before anything is fitted."""
    segmentor = build_segmentor(composed("train", f"model={model}").model, CLASSES).eval()
    with torch.no_grad():
        assert segmentor(picture(33, 65)).shape == (1, CLASSES, 33, 65)


@pytest.fixture(params=MODELS)
def recipe(request: pytest.FixtureRequest, composed: Compose) -> DictConfig:
    return composed("train", f"model={request.param}", *CASES[request.param]).model


def built(recipe: DictConfig, seed: int = 0) -> Segmentor:
    torch.manual_seed(seed)
    segmentor = build_segmentor(recipe, CLASSES)
    with torch.no_grad():  # so that no unit is the identity and no batch norm hides a mistake
        for module in segmentor.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.2, 0.2)
    return segmentor


def picture(height: int, width: int, batch: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8, generator=generator)


def test_images_of_any_size_one_at_a_time(recipe: DictConfig) -> None:
    segmentor = built(recipe).eval()
    with torch.no_grad():
        for height, width in SIZES:
            logits = segmentor(picture(height, width))
            assert logits.shape == (1, CLASSES, height, width)
            assert bool(torch.isfinite(logits).all())


def test_images_of_a_batch_do_not_see_each_other(recipe: DictConfig) -> None:
    segmentor = built(recipe).double().eval()
    images = picture(49, 65, batch=2)
    with torch.no_grad():
        together = segmentor(images)
        for number in range(2):
            torch.testing.assert_close(segmentor(images[number : number + 1])[0], together[number])


def test_every_parameter_gets_a_gradient(recipe: DictConfig) -> None:
    segmentor = built(recipe).double().train()
    outputs: dict[str, Tensor] = segmentor(picture(97, 129, batch=2), outputs="all")
    assert set(outputs) == set(segmentor.loss_weights)
    target = torch.randint(0, CLASSES, (2, 97, 129), generator=torch.Generator().manual_seed(2))
    sum(nn.functional.cross_entropy(logits, target) for logits in outputs.values()).backward()
    without = [name for name, p in segmentor.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []
    assert all(bool(torch.isfinite(p.grad).all()) for p in segmentor.parameters() if p.grad is not None)


def test_the_seed_decides_the_weights(recipe: DictConfig) -> None:
    first, second, other = (built(recipe, seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_weights_come_back_from_a_state_dict(recipe: DictConfig) -> None:
    trained, fresh = built(recipe, 5).eval(), built(recipe, 6).eval()
    fresh.load_state_dict(trained.state_dict())
    with torch.no_grad():
        assert torch.equal(fresh(picture(40, 61)), trained(picture(40, 61)))


@pytest.mark.long
def test_a_captured_graph_computes_the_same(recipe: DictConfig) -> None:
    """What ``task.compile=true`` traces; tests/training/test_compile.py generates code from such a graph."""
    segmentor = built(recipe).eval()
    image = picture(65, 97)
    with torch.no_grad():
        expected = segmentor(image)
        names = list(segmentor.state_dict())
        segmentor.compile(backend="eager")
        torch.testing.assert_close(segmentor(image), expected)
    assert list(segmentor.state_dict()) == names
    torch.compiler.reset()


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"auto_deeplab", "deeplabv1", "deeplabv1_msc", "hdc_duc"}))
def test_features_agree_at_every_output_stride(name: str, composed: Compose) -> None:
    """The same weights give the same features on the common grid: every second of stride 8 is one of stride 16.

    VGG-16's poolings are not dilated, as in the released nets, HDC has rates for one output stride, and Auto-DeepLab's
    strides are those of its genotype.
    """
    overrides = [each for each in CASES[name] if not each.startswith("backbone.output_stride")]
    recipe = composed("train", f"model={name}", *overrides, "backbone.output_stride=16").model
    segmentor = built(recipe).double().eval()
    image = segmentor.preprocess(picture(129, 193))
    with torch.no_grad():
        coarse = segmentor.backbone(image)[-1]
        segmentor.backbone.set_output_stride(8)
        fine = segmentor.backbone(image)[-1]
    torch.testing.assert_close(fine[..., ::2, ::2], coarse)
