"""Files as exports write them, without a network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper


def described(mean: Sequence[float] | None = (120.0, 110.0, 100.0), **changes: Any) -> str:
    """What a file for two classes says about itself, with changes."""
    space = {"name": "x", "classes": ["a", "b"], "palette": [[0, 0, 0], [1, 1, 1]], "raw_ids": [0, 1]}
    space |= {"ignored_raw_ids": [255], "ignore_index": 255}
    card = {
        "format": 2,
        "label_space": space,
        "preprocessing": {} if mean is None else {"mean": mean},
        "recipe": {},
        "score": None,
    }
    plain = {"card": card, "result": "logits", "size": None, "precision": "fp32", "grid": "points"}
    return json.dumps(plain | {"output_stride": 16, "input_scales": [1.0]} | changes)


def identity_file(path: Path, description: str | None, channels: Any = 3) -> Path:
    """A file whose result is its input."""
    value = helper.make_tensor_value_info("image", TensorProto.UINT8, ["b", channels, "h", "w"])
    out = helper.make_tensor_value_info("logits", TensorProto.UINT8, ["b", 3, "h", "w"])
    graph = helper.make_graph([helper.make_node("Identity", ["image"], ["logits"])], "g", [value], [out])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if description is not None:
        helper.set_model_props(made, {"atrous": description})
    onnx.save(made, str(path))
    return path
