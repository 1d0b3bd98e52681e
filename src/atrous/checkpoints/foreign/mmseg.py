"""mmsegmentation's DeepLabv3 (``ASPPHead``) and v3+ (``DepthwiseSeparableASPPHead``) on ResNet and ResNetV1c."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from atrous.checkpoints.foreign._resnet import resnet_name
from atrous.checkpoints.foreign._translation import Renaming, Translation, model_node, rates_at_stride_16
from atrous.errors import AtrousError

_RATES = (12, 24, 36)
"""Of the published networks of output stride 8 (``configs/_base_/models/deeplabv3_r50-d8.py``)."""
_ASPP = "head.aspp"


def translate(
    state: Mapping[str, Tensor],
    *,
    output_stride: int | None = None,
    rates: Sequence[int] | None = None,
    align_corners: bool | None = None,
) -> Translation:
    """Translate a state dict.

    Args:
        state: The tensors.
        output_stride: Product of the backbone's strides; ``None`` for 8, as most published networks have.
        rates: ``dilations`` of its head without the leading 1.
        align_corners: ``align_corners`` of its head; ``None`` for false. Networks for crops of 769 pixels have true.

    Raises:
        AtrousError: Another network, or another backbone.
    """
    renaming = Renaming("mmseg", state)
    stride = output_stride or 8
    ours_rates = rates_at_stride_16(_RATES if rates is None else rates, stride)
    backbone = {"name": _resnet(renaming), "output_stride": stride}
    separable = _aspp(renaming, len(ours_rates))
    head: dict[str, Any] = {
        "_target_": "atrous.models.heads.MMSegDeepLabV3Head",
        "rates": ours_rates,
        "aspp_channels": renaming.state[f"{_ASPP}.projection.0.weight"].shape[0],
        "separable": separable,
    }
    if renaming.has("decode_head.c1_bottleneck."):
        _module(renaming, "decode_head.c1_bottleneck", "head.low_level.0")
        for number in range(2):
            _separable(renaming, f"decode_head.sep_bottleneck.{number}", f"head.refinement.0.{number}")
        head |= {
            "_target_": "atrous.models.heads.MMSegDeepLabV3PlusHead",
            "low_level_channels": renaming.state["head.low_level.0.0.weight"].shape[0],
            "decoder_channels": head["aspp_channels"],
            "align_corners": bool(align_corners),
        }
    renaming.convolution("decode_head.conv_seg", "head.classifier", bias=True)
    return Translation(
        model=model_node(
            backbone=backbone,
            head=head,
            align_corners=bool(align_corners),
            auxiliary=_auxiliary(renaming),
            extend=False,
        ),
        state=renaming.state,
        unused=renaming.left({"auxiliary_head.": "an auxiliary head of another form"}),
        num_classes=renaming.state["head.classifier.bias"].numel(),
    )


def _resnet(renaming: Renaming) -> str:
    """Move the backbone; ResNetV1c is timm's variant "c", with a stem of three 3×3 convolutions."""
    name = resnet_name(renaming, "backbone.")
    if len(renaming.shape("backbone.layer2.0.downsample.1.weight")) == 4:
        raise AtrousError("the file's backbone is a ResNetV1d; source=mmseg knows ResNet and ResNetV1c")
    renaming.all("backbone.layer", "backbone.network.layer")
    if not renaming.has("backbone.stem."):
        renaming.convolution("backbone.conv1", "backbone.network.conv1")
        renaming.norm("backbone.bn1", "backbone.network.bn1")
        return name
    for place in (0, 3, 6):
        renaming.convolution(f"backbone.stem.{place}", f"backbone.network.conv1.{place}")
    renaming.norm("backbone.stem.1", "backbone.network.conv1.1")
    renaming.norm("backbone.stem.4", "backbone.network.conv1.4")
    renaming.norm("backbone.stem.7", "backbone.network.bn1")
    return f"{name}c"


def _aspp(renaming: Renaming, branches: int) -> bool:
    """Move the ASPP; says whether it is separable."""
    separable = renaming.has("decode_head.aspp_modules.1.depthwise_conv.")
    _module(renaming, "decode_head.image_pool.1", f"{_ASPP}.pooling.block")
    _module(renaming, "decode_head.aspp_modules.0", f"{_ASPP}.pointwise")
    for number in range(branches):
        move = _separable if separable else _module
        move(renaming, f"decode_head.aspp_modules.{number + 1}", f"{_ASPP}.atrous.{number}")
    _module(renaming, "decode_head.bottleneck", f"{_ASPP}.projection")
    return separable


def _auxiliary(renaming: Renaming) -> dict[str, Any] | None:
    """Move the ``FCNHead`` on the third stage, where it has the published form: one convolution, no concatenation."""
    theirs = "auxiliary_head"
    if not renaming.has(f"{theirs}.conv_seg."):
        return None
    if renaming.has(f"{theirs}.conv_cat.") or renaming.has(f"{theirs}.convs.1."):
        return None
    _module(renaming, f"{theirs}.convs.0", "auxiliary.block")
    renaming.convolution(f"{theirs}.conv_seg", "auxiliary.classifier", bias=True)
    channels = renaming.state["auxiliary.block.0.weight"].shape[0]
    return {"_target_": "atrous.models.heads.FCNHead", "feature": -2, "channels": channels}


def _module(renaming: Renaming, theirs: str, ours: str) -> None:
    renaming.block(f"{theirs}.conv", f"{theirs}.bn", ours)


def _separable(renaming: Renaming, theirs: str, ours: str) -> None:
    for number, half in enumerate(("depthwise_conv", "pointwise_conv")):
        renaming.convolution(f"{theirs}.{half}.conv", f"{ours}.{3 * number}")
        renaming.norm(f"{theirs}.{half}.bn", f"{ours}.{3 * number + 1}")
