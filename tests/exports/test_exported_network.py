"""Files in place of checkpoints: the same probabilities under every protocol, or clear words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.exports.made_by_hand import described, identity_file

from atrous.checkpoints import Card
from atrous.crf import DenseCRF
from atrous.errors import AtrousError
from atrous.exports import Description, ExportedNetwork, Onnx, Standalone, load_network
from atrous.inference import Inference, MultiScale, Padded, Refined, SlidingWindow, Stretched, WholeImage
from atrous.models import Segmentor

COARSE = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(1))
IMAGE = (255 * torch.nn.functional.interpolate(COARSE, (70, 101))).to(torch.uint8)
INFERENCES: list[Inference] = [
    WholeImage(),
    MultiScale(flip=True),
    SlidingWindow(size=49),
    Padded(size=[81, 113]),
    Stretched(size=65),
    Refined(refiner=DenseCRF(iterations=2)),
]


def write(network: Segmentor, card: Card, path: Path, **options: Any) -> Path:
    form = Onnx(**options)
    description = Description.of(network, card, result=form.result, size=form.size, precision="fp32")
    form.write(Standalone(network, form.result), description, path)
    return path


@pytest.fixture(scope="module")
def file(network: Segmentor, card: Card, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(network, card, tmp_path_factory.mktemp("file") / "network.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("inference", INFERENCES, ids=lambda inference: type(inference).__name__)
def test_probabilities_are_those_of_the_network(file: Path, network: Segmentor, inference: Inference) -> None:
    exported, card = load_network(file)
    assert card.label_space.num_classes == exported.num_classes == 5
    with torch.inference_mode():
        given, wanted = inference(exported, IMAGE), inference(network, IMAGE)
    assert len(wanted.argmax(1).unique()) > 2
    # files take whole numbers, but the mean color, which pads, is none
    torch.testing.assert_close(given, wanted, rtol=0, atol=5e-2 if isinstance(inference, Padded) else 2e-4)


@pytest.mark.slow
def test_several_scales_differ_by_rounding_alone(file: Path, network: Segmentor) -> None:
    """Files take whole numbers; resized images are rounded to them, and scores are enlarged in two steps."""
    inference = MultiScale(scales=(1.0, 1.5), flip=True)
    exported, _ = load_network(file)
    with torch.inference_mode():
        difference = (inference(exported, IMAGE) - inference(network, IMAGE)).abs()
    assert difference.mean() < 0.01


@pytest.mark.slow
def test_probabilities_in_a_file_are_as_good(network: Segmentor, card: Card, tmp_path: Path) -> None:
    exported, _ = load_network(write(network, card, tmp_path / "n.onnx", result="probabilities", size=[70, 101]))
    with torch.inference_mode():
        torch.testing.assert_close(WholeImage()(exported, IMAGE), WholeImage()(network, IMAGE), rtol=0, atol=1e-4)
        with pytest.raises(AtrousError, match=r"takes images of 70×101 .*inference=padded inference.size=\[70,101\]"):
            WholeImage()(exported, IMAGE[..., :60])
        padded = Padded(size=[70, 101])
        smaller = IMAGE[:, :, :60, :90]
        torch.testing.assert_close(padded(exported, smaller), padded(network, smaller), rtol=0, atol=5e-2)


@pytest.mark.parametrize(
    ("description", "words"),
    [
        (None, "was not exported by Atrous"),
        ("no JSON", "describes itself in a way that cannot be read"),
        ("{}", "describes itself in a way that cannot be read"),
        (described(grid="circles"), "describes itself in a way that cannot be read"),
        (described(result="scores"), "format.result=scores is unknown"),
        (described(mean=None), r"describes itself in a way that cannot be read \('mean'\)"),
        (described(mean=[1, 2]), "a mean color has three numbers"),
        (described(card=[]), "was not written by Atrous"),
        (described(result="labels"), "gives labels alone"),
    ],
)
def test_files_that_say_nothing_of_use(description: str | None, words: str, tmp_path: Path) -> None:
    with pytest.raises(AtrousError, match=words):
        load_network(identity_file(tmp_path / "network.onnx", description))


def test_what_is_no_onnx_file(tmp_path: Path) -> None:
    for content in (b"", b"no model", np.random.default_rng(0).bytes(1000)):
        path = tmp_path / "network.onnx"
        path.write_bytes(content)
        with pytest.raises(AtrousError, match=r"is not an ONNX file that can be run|was not exported by Atrous"):
            load_network(path)


def test_files_that_give_something_else_than_they_say(tmp_path: Path) -> None:
    """It says two classes, and gives three maps."""
    exported, _ = load_network(identity_file(tmp_path / "network.onnx", described()))
    with pytest.raises(AtrousError, match=r"gives \[2, 3, 70, 101\] where \[2, 2, 70, 101\] are due: it is damaged"):
        WholeImage()(exported, IMAGE)
    exported, _ = load_network(identity_file(tmp_path / "gray.onnx", described(), channels=1))
    with pytest.raises(AtrousError, match=r"gray.onnx cannot be run on images of \[2, 3, 70, 101\] \(.*dimensions"):
        WholeImage()(exported, IMAGE)


def test_what_is_decided_for_good(tmp_path: Path) -> None:
    path = identity_file(tmp_path / "network.onnx", described())
    with pytest.raises(AtrousError, match=r"has output stride 16 for good.*output_stride=8"):
        load_network(path, output_stride=8)
    exported, _ = load_network(path, output_stride=16)
    assert isinstance(exported, ExportedNetwork)
    assert exported.precision == "fp32"
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(AtrousError, match="computes in fp32 for good"):
        exported.logit_map(IMAGE)
