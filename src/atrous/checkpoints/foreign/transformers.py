"""Hugging Face's ``MobileNetV2ForSemanticSegmentation``: MobileNetV2, image pooling and a 1×1 branch."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from atrous.checkpoints.foreign._translation import Renaming, Translation, model_node
from atrous.errors import AtrousError

_BACKBONES = {112: "035", 160: "050", 240: "075", 320: "100", 448: "140"}
"""Width of the last block, and of the network in timm's name."""
_UNITS = (1, 2, 3, 4, 3, 3, 1)
"""Blocks by stage (arXiv 1801.04381, table 2); they are numbered through there, from the second on."""
_BATCH_NORM_EPS = 1e-3
"""Of the backbone (``layer_norm_eps``); the head's is PyTorch's."""
_HEAD = {
    "conv_pool": "head.aspp.pooling.block",
    "conv_aspp": "head.aspp.pointwise",
    "conv_projection": "head.aspp.projection",
}


def translate(state: Mapping[str, Tensor], *, output_stride: int | None = None) -> Translation:
    """Translate a state dict.

    The TensorFlow padding of such networks equals ours on the images that the Segmentor extends.

    Args:
        state: The tensors.
        output_stride: ``output_stride`` of its configuration; ``None`` for 8, that of the published networks.

    Raises:
        AtrousError: Another network.
    """
    renaming = Renaming("transformers", state)
    width = renaming.shape(f"mobilenet_v2.layer.{sum(_UNITS) - 2}.reduce_1x1.convolution.weight")[0]
    if width not in _BACKBONES:
        raise AtrousError(
            f"the file's MobileNetV2 ends with {width} channels; source=transformers knows "
            f"{', '.join(map(str, _BACKBONES))}"
        )
    ours = "backbone.network"
    stem = "mobilenet_v2.conv_stem"
    _layer(renaming, f"{stem}.first_conv", f"{ours}.conv_stem", f"{ours}.bn1")
    _layer(renaming, f"{stem}.conv_3x3", f"{ours}.blocks.0.0.conv_dw", f"{ours}.blocks.0.0.bn1")
    _layer(renaming, f"{stem}.reduce_1x1", f"{ours}.blocks.0.0.conv_pw", f"{ours}.blocks.0.0.bn2")
    number = 0
    for stage, units in enumerate(_UNITS[1:], start=1):
        for unit in range(units):
            theirs, block = f"mobilenet_v2.layer.{number}", f"{ours}.blocks.{stage}.{unit}"
            _layer(renaming, f"{theirs}.expand_1x1", f"{block}.conv_pw", f"{block}.bn1")
            _layer(renaming, f"{theirs}.conv_3x3", f"{block}.conv_dw", f"{block}.bn2")
            _layer(renaming, f"{theirs}.reduce_1x1", f"{block}.conv_pwl", f"{block}.bn3")
            number += 1
    for name, block in _HEAD.items():
        _layer(renaming, f"segmentation_head.{name}", f"{block}.0", f"{block}.1")
    renaming.convolution("segmentation_head.classifier.convolution", "head.classifier", bias=True)
    return Translation(
        model=model_node(
            backbone={
                "name": f"mobilenetv2_{_BACKBONES[width]}",
                "output_stride": output_stride or 8,
                "mean": [0.5, 0.5, 0.5],
                "std": [0.5, 0.5, 0.5],
                "batch_norm_eps": _BATCH_NORM_EPS,
            },
            head={"_target_": "atrous.models.heads.DeepLabV3Head", "rates": [], "dropout": 0.8},
        ),
        state=renaming.state,
        unused=renaming.left({"mobilenet_v2.conv_1x1.": "computed there, but the head does not look at it"}),
        num_classes=renaming.state["head.classifier.bias"].numel(),
    )


def _layer(renaming: Renaming, theirs: str, convolution: str, norm: str) -> None:
    renaming.convolution(f"{theirs}.convolution", convolution)
    renaming.norm(f"{theirs}.normalization", norm)
