"""Google's DeepLabv3 gives in our modules what its own interpreter computes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from atrous.checkpoints.foreign import Translation, translate_file
from atrous.errors import AtrousError
from atrous.models.segmentor import Segmentor

FLOAT = "weights/deeplabv3_257_mv_gpu.tflite"
QUANTIZED = "weights/deeplabv3_mnv2_pascal_quant.tflite"


@pytest.fixture(scope="module")
def file(shared: Path) -> Path:
    if not (shared / FLOAT).is_file():
        pytest.skip(f"{shared / FLOAT} does not exist")
    pytest.importorskip("ai_edge_litert")
    return shared / FLOAT


@pytest.fixture(scope="module")
def ours(file: Path, rebuilt: Callable[[Translation], Segmentor]) -> Segmentor:
    translation = translate_file("tflite", file)
    assert translation.unused == ()
    return rebuilt(translation)


@torch.no_grad()
def test_logits_are_the_interpreters(file: Path, ours: Segmentor, pictures: Any) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(file))
    interpreter.allocate_tensors()
    image, _ = pictures(257, 257)
    theirs = (image[:1] / 127.5 - 1).permute(0, 2, 3, 1).contiguous().numpy()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], theirs)
    interpreter.invoke()
    wanted = torch.from_numpy(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])).permute(0, 3, 1, 2)
    assert wanted.abs().max() > 1
    torch.testing.assert_close(ours(image[:1]), wanted, rtol=0, atol=1e-3)


def test_every_parameter_is_moved(ours: Segmentor) -> None:
    assert sum(parameter.numel() for parameter in ours.parameters()) == 688_357


def test_dilated_blocks_are_tensorflows(ours: Segmentor) -> None:
    """The blocks that lose their stride, 6 and 13, keep the rate of the ones before them."""
    blocks = [block for stage in ours.backbone.network.blocks for block in stage]
    assert [block.conv_dw.dilation[0] for block in blocks] == [1] * 7 + [2] * 7 + [4] * 3
    assert [block.conv_dw.stride[0] for block in blocks] == [1, 2, 1, 2] + [1] * 13


def test_quantized_files_are_refused(file: Path) -> None:
    with pytest.raises(AtrousError, match="is a quantized network"):
        translate_file("tflite", file.parent.parent / QUANTIZED)


def test_without_the_interpreter_it_says_which_package(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(AtrousError, match="pip install ai-edge-litert"):
        translate_file("tflite", file)
