"""torchvision's ``deeplabv3_resnet50``, ``deeplabv3_resnet101`` and ``deeplabv3_mobilenet_v3_large``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from atrous.checkpoints.foreign._resnet import resnet_name
from atrous.checkpoints.foreign._translation import Renaming, Translation, model_node, rates_at_stride_16

_RATES = (12, 24, 36)
"""Whatever the output stride (``torchvision/models/segmentation/deeplabv3.py``)."""
_RESNET_STRIDE, _MOBILENET_STRIDE = 8, 16
_MOBILENET_EPS = 1e-3
_UNITS = (1, 2, 3, 4, 2, 3)
"""Blocks of MobileNetV3-Large by stage as timm divides them; torchvision numbers them through."""


def translate(state: Mapping[str, Tensor]) -> Translation:
    """Translate a state dict of one of the three networks, with or without its auxiliary classifier."""
    renaming = Renaming("torchvision", state)
    auxiliary: dict[str, Any] | None = None
    if renaming.has("aux_classifier."):
        auxiliary = {"_target_": "atrous.models.heads.FCNHead", "feature": -2}
        renaming.block("aux_classifier.0", "aux_classifier.1", "auxiliary.block")
        renaming.convolution("aux_classifier.4", "auxiliary.classifier", bias=True)
    backbone = _resnet(renaming) if renaming.has("backbone.layer1.") else _mobilenet(renaming)
    _head(renaming)
    return Translation(
        model=model_node(
            backbone=backbone,
            head={
                "_target_": "atrous.models.heads.TorchvisionDeepLabV3Head",
                "rates": rates_at_stride_16(_RATES, backbone["output_stride"]),
                "dropout": 0.5,
            },
            align_corners=False,
            extend=False,
            auxiliary=auxiliary,
        ),
        state=renaming.state,
        unused=renaming.left(),
        num_classes=renaming.state["head.classifier.bias"].numel(),
    )


def _head(renaming: Renaming) -> None:
    renaming.block("classifier.0.convs.0.0", "classifier.0.convs.0.1", "head.aspp.pointwise")
    for number in range(len(_RATES)):
        theirs = f"classifier.0.convs.{number + 1}"
        renaming.block(f"{theirs}.0", f"{theirs}.1", f"head.aspp.atrous.{number}")
    pooling = f"classifier.0.convs.{len(_RATES) + 1}"
    renaming.block(f"{pooling}.1", f"{pooling}.2", "head.aspp.pooling.block")
    renaming.block("classifier.0.project.0", "classifier.0.project.1", "head.aspp.projection")
    renaming.pooling_first("head.aspp.projection.0.weight")
    renaming.block("classifier.1", "classifier.2", "head.refinement.0")
    renaming.convolution("classifier.4", "head.classifier", bias=True)


def _resnet(renaming: Renaming) -> dict[str, Any]:
    name = resnet_name(renaming, "backbone.")
    renaming.all("backbone.", "backbone.network.")
    return {"name": name, "output_stride": _RESNET_STRIDE}


def _mobilenet(renaming: Renaming) -> dict[str, Any]:
    """Blocks are numbered 1 … 15 after the stem: expansion, depthwise convolution, perhaps a gate, projection."""
    ours = "backbone.network"
    renaming.convolution("backbone.0.0", f"{ours}.conv_stem")
    renaming.norm("backbone.0.1", f"{ours}.bn1")
    number = 0
    for stage, units in enumerate(_UNITS):
        for unit in range(units):
            number += 1
            _mobilenet_block(renaming, f"backbone.{number}.block", f"{ours}.blocks.{stage}.{unit}")
    last = f"{ours}.blocks.{len(_UNITS)}.0"
    renaming.convolution(f"backbone.{number + 1}.0", f"{last}.conv")
    renaming.norm(f"backbone.{number + 1}.1", f"{last}.bn1")
    return {
        "name": "mobilenetv3_large_100",
        "output_stride": _MOBILENET_STRIDE,
        # the auxiliary classifier sits on the first block of the third stage
        "taps": ["blocks.0", "blocks.1", "blocks.2.0", f"blocks.{len(_UNITS)}"],
        "strided_rate": "behind",
        "batch_norm_eps": _MOBILENET_EPS,
    }


def _mobilenet_block(renaming: Renaming, theirs: str, ours: str) -> None:
    expands = renaming.has(f"{theirs}.2.")
    gated = any(renaming.has(f"{theirs}.{place}.fc1.") for place in (1, 2))
    layers = [("conv_pw", "bn1"), ("conv_dw", "bn2"), ("se", ""), ("conv_pwl", "bn3")]
    if not expands:
        layers = [("conv_dw", "bn1"), ("se", ""), ("conv_pw", "bn2")]
    if not gated:
        layers.remove(("se", ""))
    for place, (convolution, norm) in enumerate(layers):
        if convolution == "se":
            renaming.convolution(f"{theirs}.{place}.fc1", f"{ours}.se.conv_reduce", bias=True)
            renaming.convolution(f"{theirs}.{place}.fc2", f"{ours}.se.conv_expand", bias=True)
        else:
            renaming.convolution(f"{theirs}.{place}.0", f"{ours}.{convolution}")
            renaming.norm(f"{theirs}.{place}.1", f"{ours}.{norm}")
