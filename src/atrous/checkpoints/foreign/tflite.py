"""Google's DeepLabv3 on MobileNetV2 as a float TFLite file: image pooling and a 1×1 branch, batch norm folded in."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from atrous.checkpoints.foreign._translation import Renaming, Translation, model_node
from atrous.errors import AtrousError, first_line

_BACKBONE = "tf_deeplab_mobilenetv2_050"
_UNITS = (1, 2, 3, 4, 3, 3, 1)
"""Blocks of MobileNetV2 by stage (arXiv 1801.04381, table 2); TensorFlow numbers them through."""
_HEAD = {
    "image_pooling": "head.aspp.pooling.block.0",
    "aspp0": "head.aspp.pointwise.0",
    "concat_projection": "head.aspp.projection.0",
    "logits/semantic": "head.classifier",
}


def read(path: Path) -> dict[str, Tensor]:
    """Read weights and biases by their names in the file, as PyTorch lays them out: O×I×H×W.

    Raises:
        AtrousError: The file is missing or no TFLite file, the interpreter is not installed, or the network is
            quantized.
    """
    if not path.is_file():
        raise AtrousError(f"there is no weights file path={path}")
    try:
        litert = importlib.import_module("ai_edge_litert.interpreter")
    except ImportError as error:
        raise AtrousError(
            "source=tflite reads files with the package ai-edge-litert: pip install ai-edge-litert"
        ) from error
    try:
        interpreter = litert.Interpreter(model_path=str(path))
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise AtrousError(f"{path} is not a TFLite file: {first_line(error)}") from error
    if interpreter.get_input_details()[0]["dtype"] is not np.float32:
        raise AtrousError(f"{path} is a quantized network; only float networks can be imported")
    tensors: dict[str, Tensor] = {}
    for detail in interpreter.get_tensor_details():
        name = str(detail["name"])
        kind = name.rsplit("/", 1)[-1]
        if kind not in ("weights", "depthwise_weights", "Conv2D_bias", "depthwise_bias"):
            continue
        tensor = torch.from_numpy(interpreter.get_tensor(detail["index"]).copy())
        if kind == "weights":
            tensor = tensor.permute(0, 3, 1, 2)
        elif kind == "depthwise_weights":
            tensor = tensor.permute(3, 0, 1, 2)
        tensors[name] = tensor.contiguous()
    return tensors


def translate(state: Mapping[str, Tensor]) -> Translation:
    """Translate the tensors of half-width MobileNetV2 at output stride 8, as ``read`` gives them."""
    renaming = Renaming("tflite", state)
    theirs, ours = "MobilenetV2", "backbone.network"
    _convolution(renaming, f"{theirs}/Conv", f"{ours}.conv_stem")
    number = 0
    for stage, units in enumerate(_UNITS):
        for unit in range(units):
            block = f"{ours}.blocks.{stage}.{unit}"
            if number == 0:
                _depthwise(renaming, f"{theirs}/expanded_conv/depthwise", f"{block}.conv_dw")
                _convolution(renaming, f"{theirs}/expanded_conv/project", f"{block}.conv_pw")
            else:
                _convolution(renaming, f"{theirs}/expanded_conv_{number}/expand", f"{block}.conv_pw")
                _depthwise(renaming, f"{theirs}/expanded_conv_{number}/depthwise", f"{block}.conv_dw")
                _convolution(renaming, f"{theirs}/expanded_conv_{number}/project", f"{block}.conv_pwl")
            number += 1
    for name, place in _HEAD.items():
        _convolution(renaming, name, place)
    return Translation(
        model=model_node(
            backbone={"name": _BACKBONE, "output_stride": 8, "norm": "folded"},
            head={"_target_": "atrous.models.heads.TFLiteDeepLabV3Head", "rates": []},
        ),
        state=renaming.state,
        unused=renaming.left(),
        num_classes=renaming.state["head.classifier.bias"].numel(),
    )


def _convolution(renaming: Renaming, theirs: str, ours: str) -> None:
    renaming.state[f"{ours}.weight"] = renaming.take(f"{theirs}/weights")
    renaming.state[f"{ours}.bias"] = renaming.take(f"{theirs}/Conv2D_bias")


def _depthwise(renaming: Renaming, theirs: str, ours: str) -> None:
    renaming.state[f"{ours}.weight"] = renaming.take(f"{theirs}/depthwise_weights")
    renaming.state[f"{ours}.bias"] = renaming.take(f"{theirs}/depthwise_bias")
