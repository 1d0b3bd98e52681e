"""Parameters and multiply-adds of our networks beside those that the papers print.

The authors count what TensorFlow computed, which differs in two ways from our networks; a count that follows them is
shown beside our own.

- TensorFlow ran atrous convolutions as ordinary ones on interleaved sub-maps ("space to batch"), for which a map is
  first padded to a multiple of the rate: a rate of 18 turns 33×33 places into 36×36, 19 % more.
- The authors' ResNets are slim's "beta" ones: they begin with three 3×3 convolutions of 64, 64 and 128 channels, and
  the last unit of a stage does the striding. timm's ``resnet101s`` has that stem, but the first unit of the next stage
  strides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from atrous.models import Segmentor
from atrous.models.atrous_convolution import set_rate
from atrous.models.backbones import VGG16, TimmBackbone
from atrous.models.heads import (
    DeepLabV3Head,
    DeepLabV3PlusHead,
    FCNHead,
    LargeFOVHead,
    TFLiteDeepLabV3Head,
    TorchvisionDeepLabV3Head,
)
from atrous.models.nas import AutoDeepLab, Genotype
from atrous.places import CONFIGURATION
from atrous.terminal import track

VOC_CLASSES = 21
MULTI_GRID = (1, 2, 4)
_BETA = "resnet101s"
CITYSCAPES_CLASSES = 19


@dataclass(frozen=True)
class Claim:
    """A number in a paper, and the network that it is about.

    Attributes:
        network: What it is.
        build: Builds it.
        quantity: ``parameters`` in millions or ``multiply-adds`` in billions, of one forward pass.
        value: The paper's number.
        source: Where it is printed.
        size: Height and width of the input.
        tolerance: Largest relative difference that counts as agreement, of the count that follows the authors.
        strides_at_the_end: Whether the authors' network is one of slim's ResNets.
    """

    network: str
    build: Callable[[], Segmentor]
    quantity: Literal["parameters", "multiply-adds"]
    value: float
    source: str
    size: tuple[int, int] = (513, 513)
    tolerance: float = 0.01
    strides_at_the_end: bool = False


@dataclass(frozen=True)
class Count:
    """What a network has.

    Attributes:
        parameters: In millions.
        multiply_adds: In billions, one forward pass over one image, convolutions only.
        padded_multiply_adds: The same, counted as the authors do; see the module.
    """

    parameters: float
    multiply_adds: float
    padded_multiply_adds: float


def count(segmentor: Segmentor, size: tuple[int, int]) -> Count:
    """Count without computing anything."""
    network = segmentor.eval().to("meta")
    exact, padded = [], []

    def add(module: nn.Conv2d, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        rows, columns = output.shape[-2:]
        exact.append(module.weight.numel() * rows * columns)
        rows, columns = (
            -(-extent // rate) * rate for extent, rate in zip((rows, columns), module.dilation, strict=True)
        )
        padded.append(module.weight.numel() * rows * columns)

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(add)
    with torch.no_grad():
        network(torch.empty(1, 3, *size, device="meta"))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Count(parameters / 1e6, sum(exact) / 1e9, sum(padded) / 1e9)


def run(console: Console, *, only: str | None = None) -> dict[str, Any]:
    """Count every network and print the table.

    Args:
        console: Where the table goes.
        only: Leave out networks whose description does not contain this text.

    Returns:
        One row per claim.
    """
    claims = [claim for claim in CLAIMS if only is None or only in claim.network]
    rows: list[dict[str, Any]] = []
    for claim in track(claims, "counting", total=len(claims), console=console):
        ours, alike = measure(claim)
        rows.append(
            {
                "network": claim.network,
                "input": list(claim.size),
                "quantity": claim.quantity,
                "paper": claim.value,
                "ours": ours,
                "counted_alike": alike,
                "difference": alike / claim.value - 1,
                "source": claim.source,
            }
        )
    table = Table("network", "input", "", "ours", "paper", "counted alike", "difference", "source", title="fidelity")
    for row in rows:
        unit = "M parameters" if row["quantity"] == "parameters" else "B multiply-adds"
        table.add_row(
            row["network"],
            "×".join(str(extent) for extent in row["input"]),
            unit,
            f"{row['ours']:.2f}",
            f"{row['paper']:.2f}",
            f"{row['counted_alike']:.2f}",
            f"{row['difference']:+.1%}",
            row["source"],
        )
    console.print(table)
    return {"suite": "fidelity", "rows": rows}


def measure(claim: Claim) -> tuple[float, float]:
    """Our own number for a claim, and the number counted as the authors do."""
    ours = count(claim.build(), claim.size)
    if claim.quantity == "parameters":
        return ours.parameters, ours.parameters
    if not claim.strides_at_the_end:
        return ours.multiply_adds, ours.padded_multiply_adds
    alike = count(_stride_at_the_end_of_stages(claim.build()), claim.size)
    return ours.multiply_adds, alike.padded_multiply_adds


def _vgg(kernel: int, rate: int, channels: int) -> Segmentor:
    head = partial(LargeFOVHead, kernel=kernel, rate=rate, channels=channels)
    return Segmentor(backbone=VGG16(output_stride=8), head=head, num_classes=VOC_CLASSES)


def _deeplabv3(backbone: str, output_stride: int, num_classes: int = VOC_CLASSES, **head: Any) -> Segmentor:
    return Segmentor(
        backbone=TimmBackbone(backbone, output_stride=output_stride),
        head=partial(DeepLabV3Head, **head),
        num_classes=num_classes,
        multi_grid=_multi_grid(backbone),
    )


def _deeplabv3plus(backbone: str, output_stride: int, num_classes: int = VOC_CLASSES, **head: Any) -> Segmentor:
    taps = {"xception65": ("blocks.1.stack.conv2", "blocks.20"), _BETA: ("layer1.1", "layer4")}
    return Segmentor(
        backbone=TimmBackbone(backbone, output_stride=output_stride, taps=taps.get(backbone)),
        head=partial(DeepLabV3PlusHead, **head),
        num_classes=num_classes,
        multi_grid=_multi_grid(backbone),
    )


def _multi_grid(backbone: str) -> tuple[int, ...] | None:
    return MULTI_GRID if backbone.startswith("resnet") else None


def _stride_at_the_end_of_stages(segmentor: Segmentor) -> Segmentor:
    """Move a ResNet's striding from the first unit of a stage to the last unit of the one before, as in slim."""
    backbone = segmentor.backbone
    assert isinstance(backbone, TimmBackbone)
    stages = [backbone.network.get_submodule(f"layer{number}") for number in range(1, 5)]
    for before, after in pairwise(stages):
        first, last = after[0], before[-1]
        if first.conv2.stride == (2, 2):
            first.conv2.stride = first.downsample[0].stride = (1, 1)
            last.conv2.stride = (2, 2)
            last.downsample = nn.MaxPool2d(1, stride=2)
        rate = after[1].conv2.dilation[0] // (MULTI_GRID[1] if after is stages[-1] else 1)
        set_rate(first.conv2, rate)
    return segmentor


def _torchvision_form(backbone: str, output_stride: int, **options: Any) -> Segmentor:
    return Segmentor(
        backbone=TimmBackbone(backbone, output_stride=output_stride, **options),
        head=TorchvisionDeepLabV3Head,
        num_classes=VOC_CLASSES,
        auxiliary=FCNHead,
    )


def _exported_form(backbone: str) -> Segmentor:
    return Segmentor(
        backbone=TimmBackbone(backbone, output_stride=8, norm="folded"),
        head=partial(TFLiteDeepLabV3Head, rates=()),
        num_classes=VOC_CLASSES,
    )


def _auto_deeplab(size: str) -> Segmentor:
    return Segmentor(
        backbone=AutoDeepLab(genotype=Genotype.of(CONFIGURATION / "genotype" / "auto_deeplab.yaml"), size=size),
        head=partial(DeepLabV3PlusHead, separable=False),
        num_classes=CITYSCAPES_CLASSES,
    )


def _found(size: str, parameters: float, multiply_adds: float) -> tuple[Claim, Claim]:
    name, build, source = f"Auto-DeepLab-{size}, Cityscapes", partial(_auto_deeplab, size), "Auto-DeepLab table 2"
    return (
        Claim(name, build, "parameters", parameters, source, tolerance=0.0005),
        Claim(name, build, "multiply-adds", multiply_adds, source, size=(1025, 2049), tolerance=0.02),
    )


def _fov(kernel: int, rate: int, channels: int, value: float) -> Claim:
    name = f"DeepLabv1 VGG-16, fc6 {kernel}×{kernel} rate {rate}, {channels} channels"
    return Claim(name, partial(_vgg, kernel, rate, channels), "parameters", value, "v1 table 2", tolerance=0.005)


_R101 = "v3+ table 3"
_X65 = "v3+ table 5"
_ZOO = "TF model zoo"
_SEPARABLE = {"separable": True}
_FULL = {"separable": False}

CLAIMS: tuple[Claim, ...] = (
    _fov(7, 4, 4096, 134.3),
    _fov(4, 4, 4096, 65.1),
    _fov(4, 8, 4096, 65.1),
    _fov(3, 12, 1024, 20.5),
    Claim(
        "DeepLabv3 ResNet-101 OS 32",
        partial(_deeplabv3, _BETA, 32),
        "multiply-adds",
        52.43,
        _R101,
        strides_at_the_end=True,
    ),
    Claim(
        "DeepLabv3 ResNet-101 OS 16",
        partial(_deeplabv3, _BETA, 16),
        "multiply-adds",
        81.02,
        _R101,
        strides_at_the_end=True,
    ),
    Claim(
        "DeepLabv3 ResNet-101 OS 8",
        partial(_deeplabv3, _BETA, 8),
        "multiply-adds",
        276.18,
        _R101,
        strides_at_the_end=True,
    ),
    Claim(
        "DeepLabv3+ ResNet-101 OS 32",
        partial(_deeplabv3plus, _BETA, 32, **_FULL),
        "multiply-adds",
        74.20,
        _R101,
        strides_at_the_end=True,
    ),
    Claim(
        "DeepLabv3+ ResNet-101 OS 16",
        partial(_deeplabv3plus, _BETA, 16, **_FULL),
        "multiply-adds",
        101.28,  # 20.26 more than without a decoder; the two other pairs of rows differ by 21.77 and 21.74
        _R101,
        tolerance=0.015,
        strides_at_the_end=True,
    ),
    Claim(
        "DeepLabv3+ ResNet-101 OS 8",
        partial(_deeplabv3plus, _BETA, 8, **_FULL),
        "multiply-adds",
        297.92,
        _R101,
        strides_at_the_end=True,
    ),
    Claim("DeepLabv3 Xception-65 OS 16", partial(_deeplabv3, "xception65", 16), "multiply-adds", 68.00, _X65),
    Claim("DeepLabv3 Xception-65 OS 8", partial(_deeplabv3, "xception65", 8), "multiply-adds", 240.85, _X65),
    Claim(
        "DeepLabv3+ Xception-65 OS 16", partial(_deeplabv3plus, "xception65", 16, **_FULL), "multiply-adds", 89.76, _X65
    ),
    Claim(
        "DeepLabv3+ Xception-65 OS 8", partial(_deeplabv3plus, "xception65", 8, **_FULL), "multiply-adds", 262.59, _X65
    ),
    Claim(
        "DeepLabv3+ Xception-65 OS 16, separable",
        partial(_deeplabv3plus, "xception65", 16, **_SEPARABLE),
        "multiply-adds",
        54.17,
        _X65,
    ),
    Claim(
        "DeepLabv3+ Xception-65 OS 8, separable",
        partial(_deeplabv3plus, "xception65", 8, **_SEPARABLE),
        "multiply-adds",
        177.10,
        _X65,
    ),
    Claim(
        "DeepLabv3+ Xception-65 OS 16, separable, Cityscapes",
        partial(_deeplabv3plus, "xception65", 16, CITYSCAPES_CLASSES, **_SEPARABLE),
        "multiply-adds",
        418.64,
        _ZOO,
        size=(1025, 2049),
    ),
    Claim(
        "MobileNetV2 OS 16, no rates, no decoder",
        partial(_deeplabv3, "mobilenetv2_100", 16, rates=()),
        "multiply-adds",
        2.75,
        _ZOO,
    ),
    Claim(
        "MobileNetV2 OS 16, no rates, no decoder, Cityscapes",
        partial(_deeplabv3, "mobilenetv2_100", 16, CITYSCAPES_CLASSES, rates=()),
        "multiply-adds",
        21.27,
        _ZOO,
        size=(1025, 2049),
    ),
    *_found("S", 10.15, 333.25),  # the input's size is not printed
    *_found("M", 21.62, 460.93),
    *_found("L", 44.42, 695.03),
    Claim(
        "DeepLabv3 ResNet-50 OS 8 in torchvision's form",
        partial(_torchvision_form, "resnet50", 8),
        "parameters",
        42.004074,
        "torchvision",
        tolerance=0.0,
    ),
    Claim(
        "DeepLabv3 ResNet-101 OS 8 in torchvision's form",
        partial(_torchvision_form, "resnet101", 8),
        "parameters",
        60.996202,
        "torchvision",
        tolerance=0.0,
    ),
    Claim(
        "DeepLabv3 MobileNetV3-Large OS 16 in torchvision's form",
        partial(
            _torchvision_form, "mobilenetv3_large_100", 16, taps=("blocks.0", "blocks.1", "blocks.2.0", "blocks.6")
        ),
        "parameters",
        11.029328,
        "torchvision",
        tolerance=0.0,
    ),
    Claim(
        "DeepLabv3 MobileNetV2 0.5 OS 8, batch norm folded",
        partial(_exported_form, "tf_deeplab_mobilenetv2_050"),
        "parameters",
        0.688357,
        "TFLite file",
        size=(257, 257),
        tolerance=0.0,
    ),
)
