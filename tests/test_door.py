"""``import atrous``: a network by its name or from a checkpoint, in one call and without a framework's word."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

import atrous
from atrous.composition.parts import build_segmentor
from atrous.errors import AtrousError
from atrous.models import MultiScaleSegmentor, Segmentor
from atrous.models.backbones import VGG16, TimmBackbone
from atrous.models.heads import DeepLabV3PlusHead
from atrous.models.upsamplers import SubPixel

OLD = Path(__file__).parent / "checkpoints" / "format_1" / "run.ckpt"
EXTRAS = {"optuna", "submitit", "onnx", "onnxruntime", "gradio", "pydensecrf", "ai_edge_litert"}


def loaded_by(program: str) -> set[str]:
    """First parts of the names of all modules that a program of its own ends up with."""
    code = f"import sys; sys.path.insert(0, sys.argv[1]); {program}; print(*{{n.split('.')[0] for n in sys.modules}})"
    source = str(Path(atrous.__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", code, source], capture_output=True, text=True, check=True, timeout=120)
    return set(done.stdout.splitlines()[-1].split())


def test_importing_it_loads_nothing_else() -> None:
    assert (
        loaded_by("import atrous, atrous.errors; atrous.list_models()") & {"torch", "timm", "hydra", "lightning"}
        == set()
    )


@pytest.mark.slow
def test_using_it_loads_no_extra() -> None:
    used = "import atrous; atrous.create('deeplabv3plus', 'test_resnet', num_classes=2)"
    loaded = loaded_by(used)
    assert {"torch", "timm", "atrous"} <= loaded
    assert loaded & EXTRAS == set()


def test_lists_are_the_files_of_the_configuration(repository: Path) -> None:
    for group, names in (("model", atrous.list_models()), ("backbone", atrous.list_backbones())):
        files = {path.stem for path in (repository / "conf" / group).glob("*.yaml")} - {"default"}
        assert names == sorted(files)
        assert len(names) > 7


def test_a_network_is_the_one_that_training_builds(composed: Callable[..., DictConfig]) -> None:
    made = atrous.create("deeplabv3plus", "resnet18", num_classes=21, output_stride=8)
    trained = build_segmentor(composed("train", "backbone.output_stride=8", "data=shapes").model, 21)
    assert type(made) is Segmentor
    assert isinstance(made.head, DeepLabV3PlusHead)
    assert made.output_stride == 8
    assert {n: t.shape for n, t in made.state_dict().items()} == {n: t.shape for n, t in trained.state_dict().items()}
    assert made.training
    assert made.eval()(torch.zeros(1, 3, 33, 40, dtype=torch.uint8)).shape == (1, 21, 33, 40)


def test_overrides_are_words_of_the_command_line() -> None:
    words = [
        "model.head.decoder_depth=1",
        "upsampler=sub_pixel",
        "upsampler.ratio=4",
        "model.head.low_level_channels=7",
    ]
    made = atrous.create("deeplabv3plus", "resnet18", num_classes=3, overrides=words)
    assert isinstance(made.upsampler, SubPixel)
    assert len(made.head.refinement[0]) == 1
    assert made.head.low_level[0][0].out_channels == 7
    scaled = atrous.create("deeplabv2", "vgg16", num_classes=3, overrides=["backbone.channels=[2,2,2,2,3]"])
    assert isinstance(scaled, MultiScaleSegmentor)
    assert isinstance(scaled.backbone, VGG16)


def test_any_model_of_timm_is_a_backbone(tmp_path: Path) -> None:
    made = atrous.create("deeplabv3", "test_resnet", num_classes=3)
    assert isinstance(made.backbone, TimmBackbone)
    file = tmp_path / "it's [a], 'file'.pt"  # a name that means something to the command line's grammar
    torch.save(made.backbone.network.state_dict(), file)
    again = atrous.create("deeplabv3", "test_resnet", num_classes=3, pretrained=str(file))
    assert torch.equal(again.backbone.network.conv1[0].weight, made.backbone.network.conv1[0].weight)


@pytest.mark.parametrize(
    ("model", "backbone", "options", "said"),
    [
        ("deeplabv3pluss", "resnet18", {}, "no model 'deeplabv3pluss'; similar: deeplabv3plus"),
        ("zzz", "resnet18", {}, "no model 'zzz'; valid: auto_deeplab, .*hdc_duc"),
        ("deeplabv3", "resnet19", {}, "no backbone 'resnet19'; similar: resnet1"),
        ("deeplabv3", "resnet18", {"output_stride": 7}, "output stride 7 is impossible"),
        ("deeplabv3", "resnet18", {"overrides": ["model.head.depth=2"]}, "model.head.depth"),
        ("deeplabv3", "resnet18", {"overrides": ["model.head.rates=many"]}, "model.head.rates=.* must be a list"),
        ("deeplabv3", "resnet18", {"overrides": ["=="]}, "=="),
        ("deeplabv3", "resnet18", {"num_classes": 0}, "num_classes=0 must be at least 1"),
        ("deeplabv3", "resnet18", {"num_classes": "3"}, 'num_classes="3" must be a whole number'),
        ("deeplabv3", "resnet18", {"pretrained": None}, "pretrained=null must be true or false or text"),
        ("deeplabv3", "resnet18", {"output_stride": 8.5}, "output_stride=8.5 must be a whole number or null"),
        (3, "resnet18", {}, "model=3 must be text"),
    ],
)
def test_mistakes_are_one_sentence(model: str, backbone: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(AtrousError, match=said) as refusal:
        atrous.create(model, backbone, **{"num_classes": 3, **options})
    assert "\n" not in str(refusal.value)


def test_a_missing_checkpoint_is_one_sentence() -> None:
    with pytest.raises(AtrousError, match=r"there is no checkpoint nowhere\.ckpt"):
        atrous.load("nowhere.ckpt")


def test_a_checkpoint_gives_its_network_and_its_card() -> None:
    network, card = atrous.load(OLD, output_stride=16)
    assert not network.training
    assert network.output_stride == 16
    assert card.label_space.name == "shapes"
    assert card.score is not None
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 20, 30)).shape == (1, card.label_space.num_classes, 20, 30)


def test_hydra_goes_on_as_it_was(repository: Path) -> None:
    """In a notebook that composes configurations of its own."""
    with initialize_config_dir(str(repository / "conf"), version_base="1.3"):
        atrous.create("deeplabv3", "test_resnet", num_classes=2)
        assert GlobalHydra.instance().is_initialized()
        assert compose("benchmark", ["suite=fidelity"]).suite == "fidelity"
