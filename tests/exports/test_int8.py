"""Eight bits: nearly the labels of the network, in a fraction of the room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from atrous.checkpoints import Card
from atrous.errors import AtrousError
from atrous.exports import Calibrated, Description, Onnx, OnnxInt8, OpenVinoInt8, Standalone, compare
from atrous.models import Segmentor

Draw = Callable[..., torch.Tensor]


def pictures(draw: Draw, count: int, seed: int) -> list[np.ndarray]:
    """Pictures of several sizes."""
    return [draw(65 + 8 * (index % 3), 97, seed + index)[0].numpy() for index in range(count)]


@pytest.mark.long
@pytest.mark.parametrize("form", [OnnxInt8(images=8), OpenVinoInt8(images=8)], ids=["onnx", "openvino"])
def test_most_labels_are_the_same(
    form: Calibrated, network: Segmentor, card: Card, picture: Draw, tmp_path: Path
) -> None:
    form.calibration = iter(pictures(picture, 8, 0))
    path = tmp_path / f"network{form.suffix}"
    description = Description.of(network, card, result="logits", size=None, precision=form.precision)
    form.write(Standalone(network), description, path)
    run, said = form.load(path)
    assert Description.from_json(said, "").precision == "int8"
    same = []
    for each in pictures(picture, 6, 100):
        with torch.no_grad():
            wanted = network(torch.from_numpy(each)[None]).argmax(1).numpy()
        same.append((run(each[None]).argmax(1) == wanted).mean())
    assert np.mean(same) > 0.85
    assert np.mean(same) < 1  # it is another network
    assert 1e-4 < compare(network, run, form).largest < 5


@pytest.mark.long
def test_filters_take_a_quarter_of_the_room(network: Segmentor, card: Card, picture: Draw, tmp_path: Path) -> None:
    sizes = {}
    for form in (Onnx(), OnnxInt8(images=2)):
        if isinstance(form, Calibrated):
            form.calibration = iter(pictures(picture, 2, 0))
        path = tmp_path / f"{form.precision}.onnx"
        description = Description.of(network, card, result="logits", size=None, precision=form.precision)
        form.write(Standalone(network), description, path)
        sizes[form.precision] = path.stat().st_size
    assert sizes["int8"] < 0.5 * sizes["fp32"]


def test_there_are_images() -> None:
    with pytest.raises(AtrousError, match=r"format.images=0 must be at least 1"):
        OnnxInt8(images=0)
