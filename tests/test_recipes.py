"""Every recipe of a paper has the paper's numbers: one table, with the source beside each."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from atrous.models.backbones import TimmBackbone

ROOT = Path(__file__).parents[1]
Compose = Callable[..., DictConfig]


@dataclass(frozen=True)
class Recipe:
    """What a paper, or its authors' code, says of one training.

    Attributes:
        source: Where the score stands.
        miou: The score that the recipe is to reproduce; None where the paper has none for it.
        backbone: timm's name, or vgg16.
        steps: Optimizer steps.
        batch: Crops a step.
        crop: Height and width of the crops.
        learning_rate: Base learning rate.
        weight_decay: Of the filters.
        policy: Name of the schedule and its numbers.
        scales: Smallest and largest factor, and the step between factors; None without.
        output_stride: In training.
        head_factor: Learning rate of new layers over the backbone's.
        bias_factor: Learning rate of biases over that of their filters.
        padded: Size that images are padded to in evaluation; None for their own.
        strided_rate: See ``TimmBackbone``.
        block4: Rates of the 3×3 convolutions of a ResNet's last stage.
        low_level: Maps that the decoder fuses, by stride or name.
        depthwise_decay: Whether depthwise filters decay.
        loss_resolution: ``scores`` with labels shrunk to them, or ``labels``.
        freeze_batch_norm: Whether batch norm is frozen.
        momentum: Of the running statistics of batch norm; None where nothing is said.
        train_split: Training images.
        doubled: Classes whose images are drawn twice.
        rotation: Largest angle of random rotation.
        loss: Class of the loss.
    """

    source: str
    miou: float | None
    backbone: str
    steps: int
    batch: int
    crop: int
    learning_rate: float
    weight_decay: float
    policy: tuple[str, *tuple[float, ...]]
    scales: tuple[float, float, float | None] | None
    output_stride: int
    head_factor: float
    bias_factor: float
    padded: tuple[int, int] | None = None
    strided_rate: str | None = None
    block4: tuple[int, ...] | None = None
    low_level: tuple[int | str, ...] = ()
    depthwise_decay: bool = True
    loss_resolution: str = "labels"
    freeze_batch_norm: bool = False
    momentum: float | None = None
    train_split: str = "trainaug"
    doubled: tuple[str, ...] = ()
    rotation: float | None = None
    loss: str = "CrossEntropy"


VOC, CITYSCAPES = (513, 513), (1025, 2049)  # the authors' evaluation crops: g3doc/pascal.md and cityscapes.md

V1 = Recipe(
    source="v1 table 1",
    miou=62.25,
    backbone="vgg16",
    steps=6000,  # v1 §5 with the released solver of LargeFOV: max_iter
    batch=30,  # its train.prototxt; 20 in the paper and in the basic net
    crop=321,  # its crop_size; 513 in test.prototxt
    learning_rate=1e-3,  # v1 §5
    weight_decay=5e-4,  # v1 §5
    policy=("Step", 0.1, 2000),  # v1 §5
    scales=None,  # the prototxt mirrors only
    output_stride=8,  # v1 §3.1
    head_factor=10,  # v1 §5: 0.01 for the classifier
    bias_factor=2,  # lr_mult of the prototxts
    padded=VOC,
    loss_resolution="scores",  # v1 §3.1: labels subsampled by 8
)
V1_BASIC = replace(V1, batch=20, crop=305)  # released crop 306 = 8k + 2; 305 = 8k + 1 on our grid

V2_VGG = Recipe(
    source="v2 table 3",
    miou=68.96,
    backbone="vgg16",
    steps=20000,  # v2 table 2
    batch=10,  # v2 table 2
    crop=321,  # released train.prototxt
    learning_rate=1e-3,  # v2 §4.1
    weight_decay=5e-4,  # v2 §4.1
    policy=("Poly", 0.9),  # v2 §4.1.1
    scales=None,  # random scales are table 4's "Aug", on ResNet-101 alone
    output_stride=8,  # v2 §3.1
    head_factor=10,
    bias_factor=2,  # lr_mult of the prototxts
    loss_resolution="scores",  # labels shrunk by 8
)
V2_RESNET = replace(
    V2_VGG,
    source="v2 table 4",
    miou=76.35,
    backbone="resnet101",
    learning_rate=2.5e-4,  # released solver of ResNet-101
    scales=(0.5, 1.5, 0.25),  # v2 §4.1.2, and the released list of images of five scales
    strided_rate="behind",  # res4 rate 2, res5 rate 4 from the first unit on: the stride is in its first 1×1
    block4=(4, 4, 4),
    freeze_batch_norm=True,  # use_global_stats
)

V3 = Recipe(
    source="v3 table 5",
    miou=77.21,
    backbone="resnet101",
    steps=30000,  # v3 §4.1
    batch=16,  # v3 §4.1
    crop=513,  # v3 §4.1
    learning_rate=0.007,  # v3 §4.1
    weight_decay=1e-4,  # TensorFlow DeepLab's flag for ResNets
    policy=("Poly", 0.9),  # v3 §4.1
    scales=(0.5, 2.0, 0.25),  # v3 §4.1; the step is train_utils' scale_factor_step_size
    output_stride=16,  # v3 §4.1
    head_factor=1,  # last_layer_gradient_multiplier
    bias_factor=2,  # train_utils: 2 for biases
    padded=VOC,
    strided_rate="behind",  # slim strides in the last unit of a stage
    block4=(2, 4, 8),  # v3 §3.2.1: rate 2 times the multi-grid (1, 2, 4)
    depthwise_decay=False,  # core/xception.py, slim's mobilenet_v2: no regularizer for depthwise weights
    momentum=0.0003,  # v3 §4.1: decay 0.9997
)
V3_PLUS = replace(V3, source="v3+ table 3", miou=78.85, low_level=(4,))  # conv2: res2 before striding (v3+ §4.1)
XCEPTION = replace(
    V3_PLUS,
    source="v3+ table 5",
    miou=79.79,
    backbone="xception65",
    weight_decay=4e-5,  # TensorFlow DeepLab's flag
    strided_rate="before",  # core/xception.py: the block that lost its stride keeps the old rate
    block4=None,
)
MOBILENET = replace(XCEPTION, backbone="mobilenetv2_100")  # slim's mobilenet: layer_rate before rate *= stride
LONG = {"steps": 90000, "crop": 769, "padded": CITYSCAPES, "train_split": "train"}  # v3 §4.3, v3+ §4.3
# The published reproduction: batches of 8 or 4, random rotation, flip and size, cross-entropy or focal loss. The rest
# is the paper's. It does not give the angle.
REPRODUCTION: dict[str, Any] = {"source": "reproduction", "scales": (0.5, 2.0, None), "rotation": 10}
REPRODUCED = {
    "deeplabv3plus_xception65_voc_reproduction": replace(XCEPTION, **REPRODUCTION, miou=80.3, batch=4),
    "deeplabv3plus_resnet101_voc_reproduction": replace(V3_PLUS, **REPRODUCTION, miou=78.5, batch=4),
    "deeplabv3plus_mobilenetv2_voc": replace(MOBILENET, **REPRODUCTION, miou=76.1, batch=8),
}

# DUpsampling trains "exactly as DeepLabv3+"; its own settings are not published
DUPSAMPLING = replace(V3, source="DUpsampling table 1", miou=73.15, backbone="resnet50", block4=(2, 2, 2))
DUPSAMPLING_XCEPTION = replace(
    XCEPTION, source="DUpsampling table 3", miou=79.67, low_level=("blocks.18",)
)  # mfb1u16c3: middle flow, block 1, unit 16

HDC = Recipe(
    source="TuSimple-DUC's train_cityscapes.cfg",
    miou=None,
    backbone="resnet101",
    steps=6 * 6614,  # 30 epochs: load_epoch=20, num_epochs=50
    batch=8,  # batch_size=1 a GPU
    crop=513,
    learning_rate=1e-4,  # lr
    weight_decay=5e-5,  # weight_decay
    policy=("Step", 0.5, round(5 * 10582 / 8)),  # lr_factor, lr_factor_epoch=5
    scales=(0.5, 1.5, 0.25),  # scale_factors
    output_stride=8,  # ds_rate
    head_factor=1,  # network_duc_hdc.py has no lr_mult
    bias_factor=1,
    strided_rate="before",  # of no effect: rates are given unit by unit
    block4=(5, 9, 17),  # networks/resnet.py
    freeze_batch_norm=True,  # bn_use_global_stats
)

AUTO = Recipe(
    source="Auto-DeepLab table 2",
    miou=79.74,
    backbone="AutoDeepLab",
    steps=1_500_000,  # §4.2
    batch=16,  # of the MindSpore reproduction
    crop=769,  # §4.2
    learning_rate=0.05,  # §4.2
    weight_decay=4e-5,  # TensorFlow DeepLab's flag
    policy=("Poly", 0.9),  # §4.2
    scales=(0.5, 2.0, 0.25),  # TensorFlow DeepLab's
    output_stride=8,  # where the paper's path ends
    head_factor=1,
    bias_factor=1,
    padded=CITYSCAPES,
    low_level=(4,),
    momentum=0.0003,  # core/nas_network.py: decay 0.9997
    train_split="train",
)

PAPERS: dict[str, Recipe] = {
    "auto_deeplab_cityscapes": AUTO,
    "auto_deeplab_voc": replace(
        AUTO, source="Auto-DeepLab, VOC val", miou=71.68, crop=513, padded=VOC, train_split="trainaug"
    ),
    "deeplabv1_vgg16_voc": V1,
    "deeplabv1_vgg16_voc_7x7": replace(V1_BASIC, source="v1 table 2, v2 table 1", miou=64.38),
    "deeplabv1_vgg16_voc_4x4": replace(V1_BASIC, source="v1 table 2, v2 table 1", miou=59.80),
    "deeplabv1_msc_vgg16_voc": replace(V1, miou=64.21, head_factor=1),  # the new layers alone learn
    "deeplabv2_vgg16_voc": V2_VGG,
    "deeplabv2_vgg16_cityscapes": replace(V2_VGG, source="v2 table 9, full", miou=64.89, train_split="train"),
    "deeplabv2_vgg16_pascal_context": replace(V2_VGG, source="v2 table 6", miou=37.6, train_split="train"),
    "deeplabv2_resnet101_voc": V2_RESNET,
    "deeplabv2_resnet101_coco": replace(V2_RESNET, source="v2 §4.1", miou=None, train_split="train"),
    "deeplabv2_resnet101_voc_largefov": replace(V2_RESNET, miou=75.54),
    "deeplabv2_resnet101_cityscapes": replace(V2_RESNET, source="v2 table 9", miou=71.0, train_split="train"),
    "deeplabv2_resnet101_pascal_context": replace(V2_RESNET, source="v2 table 6", miou=44.7, train_split="train"),
    "deeplabv2_resnet101_person_part": replace(
        V2_RESNET, source="v2 table 7", miou=64.40, train_split="train", scales=None
    ),
    "deeplabv3_resnet101_voc": V3,
    "deeplabv3_resnet101_voc_os8": replace(
        V3,
        source="v3 §4.1, second stage",
        miou=None,
        learning_rate=0.001,
        output_stride=8,
        block4=(4, 8, 16),
        freeze_batch_norm=True,
        train_split="trainval",
        doubled=("bicycle", "chair", "diningtable", "pottedplant", "sofa"),  # "bootstrapping" for the test server
    ),
    "deeplabv3_resnet101_voc_coco": replace(V3, source="v3 table 6", miou=82.70, learning_rate=1e-4),
    "deeplabv3_resnet101_coco": replace(V3, source="v3 §4.1", miou=None, train_split="train"),
    "deeplabv3_resnet101_cityscapes": replace(V3, source="v3 table 7", miou=77.23, **LONG),
    "deeplabv3_cascade_resnet101_voc": replace(V3, source="v3 table 3", miou=76.66, block4=(2, 4, 2)),
    "deeplabv3_cascade_resnet50_voc": replace(
        V3, source="v3 table 2", miou=73.88, backbone="resnet50", block4=(2, 2, 2)
    ),
    "deeplabv3_mobilenetv2_voc": replace(MOBILENET, source="TensorFlow DeepLab's model zoo", miou=75.32, low_level=()),
    "deeplabv3_mobilenetv2_coco": replace(
        MOBILENET, source="TensorFlow DeepLab's model zoo", miou=None, low_level=(), train_split="train"
    ),
    "deeplabv3plus_resnet101_voc": V3_PLUS,
    "deeplabv3plus_xception65_voc": XCEPTION,
    "deeplabv3plus_xception65_coco": replace(XCEPTION, source="v3+ §4.4", miou=None, train_split="train"),
    "deeplabv3plus_xception65_voc_coco": replace(XCEPTION, miou=82.20, learning_rate=1e-4),
    "deeplabv3plus_xception65_cityscapes": replace(XCEPTION, source="v3+ table 7", miou=78.79, **LONG),
    **REPRODUCED,
    **{f"{name}_focal": replace(row, miou=None, loss="Focal") for name, row in REPRODUCED.items()},
    "dupsampling_resnet50_voc": DUPSAMPLING,
    "dupsampling_resnet50_voc_bilinear": replace(DUPSAMPLING, miou=72.15),
    "dupsampling_resnet50_voc_fused": replace(
        DUPSAMPLING, source="DUpsampling table 2", miou=74.20, low_level=("act1", "layer3")
    ),
    "dupsampling_xception65_voc": DUPSAMPLING_XCEPTION,
    "dupsampling_xception65_pascal_context": replace(
        DUPSAMPLING_XCEPTION, source="DUpsampling table 5", miou=51.4, train_split="train"
    ),
    "dupsampling_xception71_pascal_context": replace(
        DUPSAMPLING_XCEPTION,
        source="DUpsampling table 5",
        miou=52.5,
        backbone="xception71",
        low_level=("blocks.20",),
        train_split="train",
    ),
    "hdc_duc_resnet101_voc": HDC,
    "hdc_duc_resnet101_cityscapes": replace(
        HDC,
        miou=76.4,
        steps=6 * 1859,
        crop=801,  # crop_shape 800, on a grid of points
        policy=("Step", 0.5, round(5 * 2975 / 8)),
        train_split="train",
    ),
}
OURS = (
    "auto_deeplab_camvid",
    "auto_deeplab_shapes",
    "deeplabv3plus_efficientnet_lite0_camvid",
    "deeplabv3plus_efficientnet_lite0_camvid_30min",
    "deeplabv3plus_efficientnet_lite0_camvid_90min",
    "deeplabv3plus_efficientnet_lite0_voc",
    "deeplabv3_mobilenetv2_050_voc",
    "demo",
    "own_images",
    "claims_camvid",
    "claims_shapes",
)
"""Recipes that follow no paper."""


def test_every_recipe_is_in_the_table() -> None:
    assert sorted([*PAPERS, *OURS]) == sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml"))


@pytest.fixture
def recipe(composed: Compose) -> Callable[[str], DictConfig]:
    """Compose a recipe; second stages need no first one for that."""
    return lambda name: composed("train", f"experiment={name}", "init_from=null", "backbone.pretrained=false")


def said(config: DictConfig) -> dict[str, Any]:
    """What a composed recipe says, in the words of the table."""
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    task, augment, backbone, head = plain["task"], plain["augment"], plain["backbone"], plain["model"]["head"]
    schedule = {name: value for name, value in plain["scheduler"].items() if not name.startswith("warmup")}
    kind = schedule.pop("_target_").rsplit(".", 1)[-1]
    numbers = {"Poly": ("power",), "Step": ("gamma", "step_size")}[kind]
    low_level = head.get("low_level", head.get("low_level_stride", []))
    padded = plain["inference"].get("size")
    return {
        "backbone": backbone.get("name", {"VGG16": "vgg16"}.get(kind_of(backbone), kind_of(backbone))),
        "steps": plain["trainer"]["max_steps"],
        "batch": plain["data"]["batch_size"] * plain["trainer"]["accumulate_grad_batches"],
        "crop": augment["crop_size"],
        "learning_rate": float(task["learning_rate"]),
        "weight_decay": float(task["weight_decay"]),
        "policy": (kind, *(schedule[number] for number in numbers)),
        "scales": None if augment["scale"] == [1, 1] else (*augment["scale"], augment["step"]),
        "output_stride": backbone["output_stride"] or backbone["genotype"]["strides"][-1],
        "head_factor": task["head_factor"],
        "bias_factor": task["bias_factor"],
        "padded": (padded, padded) if isinstance(padded, int) else padded and tuple(padded),
        "strided_rate": backbone.get("strided_rate"),
        "block4": rates_of_block_4(config),
        "low_level": (low_level,) if isinstance(low_level, int) else tuple(low_level),
        "depthwise_decay": task["depthwise_decay"],
        "loss_resolution": task["loss_resolution"],
        "freeze_batch_norm": task["freeze_batch_norm"],
        "momentum": plain["model"].get("batch_norm_momentum"),
        "train_split": plain["data"]["train_split"],
        "doubled": tuple(name for name, draws in (plain["data"]["repeat_classes"] or {}).items() if draws == 2),
        "rotation": augment["rotation"],
        "loss": plain["loss"]["_target_"].rsplit(".", 1)[-1],
    }


def kind_of(node: dict[str, Any]) -> str:
    return str(node["_target_"]).rsplit(".", 1)[-1]


@functools.cache
def resnet(name: str, output_stride: int, strided_rate: str, multi_grid: tuple[int, ...], dilation: str | None) -> Any:
    """The network that a recipe wants, without weights; shared by the recipes that want the same."""
    with torch.device("meta"):
        backbone = TimmBackbone(name, output_stride=output_stride, strided_rate=strided_rate, dilation=dilation)
        if multi_grid:
            backbone.set_multi_grid(multi_grid)
    return backbone.network


def rates_of_block_4(config: DictConfig) -> tuple[int, ...] | None:
    """Read off the built network, its first unit included."""
    backbone, multi_grid = config.backbone, tuple(config.model.get("multi_grid") or ())
    if not str(backbone.get("name")).startswith("resnet"):
        return None
    network = resnet(backbone.name, backbone.output_stride, backbone.strided_rate, multi_grid, backbone.dilation)
    if backbone.dilation is None:
        assert {unit.conv2.dilation[0] for unit in network.layer3} == {16 // backbone.output_stride}
    return tuple(unit.conv2.dilation[0] for unit in network.layer4)


@pytest.mark.parametrize("name", PAPERS)
def test_the_papers_numbers(name: str, recipe: Callable[[str], DictConfig]) -> None:
    config, row = recipe(name), PAPERS[name]
    values = said(config)
    assert values == {field: getattr(row, field) for field in values}
    # what all papers share: one SGD (v2 §4.1, v3 §4.1), mirrored images, no warm-up, no colors, no clipping
    assert (config.optimizer._target_, config.optimizer.momentum) == ("torch.optim.SGD", 0.9)
    assert not config.optimizer.nesterov
    assert (config.augment.flip, config.augment.color, config.scheduler.warmup_steps) == (0.5, None, 0)
    assert (config.inference._target_ == "atrous.inference.Padded") == (row.padded is not None)
    assert config.name == name
    # an end that is scored, and scores of training images that choose nothing
    assert config.trainer.max_steps % config.validate_every == 0
    assert (config.callbacks.best is None) == (config.data.val_split in config.data.train_split)
    assert config.callbacks.last is not None


@pytest.mark.parametrize("name", [name for name, row in PAPERS.items() if row.miou is not None])
def test_the_recipe_and_the_results_name_its_score(name: str) -> None:
    """First in the recipe, and in the table of results."""
    (score, *_) = re.findall(r"\d\d\.\d+", (ROOT / "conf" / "experiment" / f"{name}.yaml").read_text())
    assert float(score) == PAPERS[name].miou
    table = (ROOT / "docs" / "results.md").read_text().split("| recipe (`experiment=`)")[1].split("\n\n")[0]
    assert score in table


def test_low_level_maps_of_xception(recipe: Callable[[str], DictConfig]) -> None:
    """Entry flow, block 2, second convolution (core/xception.py); the middle flow ends two blocks before the last."""
    entry = {65: "blocks.1.stack.conv2", 71: "blocks.2.stack.conv2"}
    for name, depth in (("dupsampling_xception65_voc", 65), ("dupsampling_xception71_pascal_context", 71)):
        config = recipe(name)
        with torch.device("meta"):
            backbone = instantiate(config.backbone, _convert_="all")
        last = len(backbone.network.blocks) - 1
        specs = {spec.name: (spec.channels, spec.stride) for spec in backbone.features}
        assert specs[entry[depth]] == (256, 4)
        assert specs[f"blocks.{last - 2}"] == (728, 16)
        assert list(config.model.head.low_level) == [f"blocks.{last - 2}"]
        assert backbone.features[-1].name == f"blocks.{last}"
    assert recipe("deeplabv3plus_xception65_voc").backbone.taps[1] == entry[65]


def test_the_baseline_differs_by_its_upsampler_alone(recipe: Callable[[str], DictConfig]) -> None:
    plain, baseline = (recipe(f"dupsampling_resnet50_voc{suffix}") for suffix in ("", "_bilinear"))
    assert baseline.upsampler._target_ == "atrous.models.upsamplers.Bilinear"
    for config in (plain, baseline):
        config.name, config.upsampler = "", {}
    assert plain == baseline
