"""``DeepLabV3`` and ``DeepLabV3Plus`` of segmentation_models.pytorch on a ResNet, or on a model of timm."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from atrous.checkpoints.foreign._resnet import resnet_name
from atrous.checkpoints.foreign._translation import Renaming, Translation, model_node, rates_at_stride_16
from atrous.errors import AtrousError

_RATES = (12, 24, 36)
"""Its default, at either output stride."""
_ASPP = "head.aspp"


def translate(
    state: Mapping[str, Tensor],
    *,
    output_stride: int | None = None,
    rates: Sequence[int] | None = None,
    backbone: str | None = None,
) -> Translation:
    """Translate a state dict.

    Args:
        state: The tensors.
        output_stride: Its ``encoder_output_stride``; ``None`` for its default, 8 for ``DeepLabV3`` and 16 for
            ``DeepLabV3Plus``.
        rates: Its ``decoder_atrous_rates``.
        backbone: timm's name of the encoder that it calls ``tu-<name>``; ``None`` for its own ResNets.

    Raises:
        AtrousError: Another network, or an encoder that is neither a ResNet nor the model of timm.
    """
    renaming = Renaming("smp", _of_timm(_present_names(state)))
    if backbone is not None and renaming.has("encoder.model."):
        name = backbone
        renaming.all("encoder.model.", "backbone.network.")
    elif renaming.has("encoder.layer1."):
        name = resnet_name(renaming, "encoder.")
        renaming.all("encoder.", "backbone.network.")
    else:
        raise AtrousError(
            "source=smp knows DeepLabV3 and DeepLabV3Plus with the encoders resnet18, resnet34, resnet50, resnet101 "
            "and resnet152, and with those of timm whose name is given (backbone=<name> for its tu-<name>); this file "
            "has no such encoder"
        )
    plus = renaming.has("decoder.block1.")
    stride = output_stride or (16 if plus else 8)
    if stride not in (8, 16):
        raise AtrousError(f"output_stride={stride} is impossible in segmentation_models.pytorch; it has 8 and 16")
    ours_rates = rates_at_stride_16(_RATES if rates is None else rates, stride)
    separable = _aspp(renaming, "decoder.aspp.0" if plus else "decoder.aspp", len(ours_rates))
    if plus:
        renaming.separable("decoder.aspp.1.0", "decoder.aspp.1.1", "decoder.aspp.2", "head.aspp_refinement.0")
        renaming.block("decoder.block1.0", "decoder.block1.1", "head.low_level.0")
        renaming.separable("decoder.block2.0.0", "decoder.block2.0.1", "decoder.block2.1", "head.refinement.0.0")
    else:
        renaming.block("decoder.conv", "decoder.bn", "head.refinement.0")
    renaming.convolution("segmentation_head.0", "head.classifier", bias=True)
    return Translation(
        model=model_node(
            # the first unit of a dilated stage has the stage's rate in its own encoders, but not in timm's
            backbone={"name": name, "output_stride": stride, "strided_rate": "before" if backbone else "behind"},
            head={
                "_target_": f"atrous.models.heads.{'SMPDeepLabV3PlusHead' if plus else 'SMPDeepLabV3Head'}",
                "rates": ours_rates,
                "aspp_channels": renaming.state[f"{_ASPP}.projection.0.weight"].shape[0],
                "separable": separable,
            },
            align_corners=True,
            extend=False,
        ),
        state=renaming.state,
        unused=renaming.left({"classification_head.": "a classifier of whole images"}),
        num_classes=renaming.state["head.classifier.bias"].numel(),
    )


def _present_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the decoder's parts, which older ``DeepLabV3`` files number."""
    if "decoder.1.weight" not in state:
        return dict(state)
    names = {"decoder.0.": "decoder.aspp.", "decoder.1.": "decoder.conv.", "decoder.2.": "decoder.bn."}
    renamed = {}
    for name, tensor in state.items():
        old = next((old for old in names if name.startswith(old)), None)
        renamed[name if old is None else names[old] + name.removeprefix(old)] = tensor
    return renamed


def _of_timm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Undo the flat names of parts that timm gives to some networks of features: ``blocks_20`` is ``blocks.20``."""
    return {re.sub(r"^(encoder\.model\.[a-z]+)_(\d+)\.", r"\1.\2.", name): tensor for name, tensor in state.items()}


def _aspp(renaming: Renaming, theirs: str, branches: int) -> bool:
    """Move the ASPP; says whether it is separable."""
    separable = renaming.has(f"{theirs}.convs.1.0.0.")
    renaming.block(f"{theirs}.convs.0.0", f"{theirs}.convs.0.1", f"{_ASPP}.pointwise")
    for number in range(branches):
        branch, ours = f"{theirs}.convs.{number + 1}", f"{_ASPP}.atrous.{number}"
        if separable:
            renaming.separable(f"{branch}.0.0", f"{branch}.0.1", f"{branch}.1", ours)
        else:
            renaming.block(f"{branch}.0", f"{branch}.1", ours)
    pooling = f"{theirs}.convs.{branches + 1}"
    renaming.block(f"{pooling}.1", f"{pooling}.2", f"{_ASPP}.pooling.block")
    renaming.block(f"{theirs}.project.0", f"{theirs}.project.1", f"{_ASPP}.projection")
    renaming.pooling_first(f"{_ASPP}.projection.0.weight")
    return separable
