"""Files of every format: the same numbers on images of any size, with the card inside."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from atrous.checkpoints import Card
from atrous.errors import AtrousError
from atrous.exports import (
    Description,
    ExecuTorch,
    FileFormat,
    Onnx,
    OpenVino,
    Standalone,
    TorchExport,
    compare,
    require_parity,
)
from atrous.exports.file_format import needed
from atrous.models import Segmentor

FORMATS = [Onnx, OpenVino, TorchExport]
pytestmark = pytest.mark.slow


def write(form: FileFormat, network: Segmentor, card: Card, folder: Path) -> Path:
    path = folder / f"network{form.suffix}"
    description = Description.of(network, card, result=form.result, size=form.size, precision=form.precision)
    form.write(Standalone(network, form.result), description, path)
    assert all(each.is_file() for each in form.files(path))
    return path


@pytest.fixture(scope="session")
def files(network: Segmentor, card: Card, tmp_path_factory: pytest.TempPathFactory) -> dict[type, Path]:
    return {form: write(form(), network, card, tmp_path_factory.mktemp("files")) for form in FORMATS}


@pytest.mark.parametrize("form", FORMATS)
def test_numbers_are_those_of_the_network(
    form: type[FileFormat], files: dict[type, Path], network: Segmentor, picture: Callable[..., torch.Tensor]
) -> None:
    run, said = form.load(files[form])
    description = Description.from_json(said, "the file")
    assert description.card.label_space.classes == ("sky", "road", "tree", "car", "pole")
    assert description.card.preprocessing == network.preprocessing()
    assert (description.output_stride, description.grid, description.size) == (16, network.grid, None)
    for batch, size in ((1, (65, 97)), (3, (50, 131)), (2, (128, 64))):
        image = picture(*size).repeat(batch, 1, 1, 1)
        with torch.no_grad():
            wanted = network(image)
        assert wanted.std() > 1
        assert len(wanted.argmax(1).unique()) > 2
        torch.testing.assert_close(torch.from_numpy(run(image.numpy())), wanted, rtol=0, atol=1e-4)
    parity = compare(network, run, form())
    assert parity.largest < 1e-4
    assert all(height != width for height, width in parity.sizes)
    require_parity(parity, form())


def test_another_network_is_noticed(files: dict[type, Path], network: Segmentor) -> None:
    """One filter that is 1 % larger is enough."""
    run, _ = Onnx.load(files[Onnx])
    weight = network.get_parameter("head.classifier.weight")
    with torch.no_grad():
        weight[0] *= 1.01
        parity = compare(network, run, Onnx())
        weight[0] /= 1.01
    assert parity.same_class > 0.9
    with pytest.raises(AtrousError, match=r"does not compute what the checkpoint does \(numbers differ by 0\.\d+\)"):
        require_parity(parity, Onnx())


def test_onnx_names_its_input_result_and_sides(files: dict[type, Path]) -> None:
    import onnx

    graph = onnx.load(str(files[Onnx])).graph
    sides = {
        value.name: [each.dim_param or each.dim_value for each in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    assert sides == {"image": ["batch", 3, "height", "width"], "logits": ["batch", 5, "height", "width"]}
    assert {node.op_type for node in graph.node} & {"BatchNormalization"} == set()
    assert {node.domain for node in graph.node} == {""}


@pytest.mark.long
def test_executorch_plans_for_one_image(
    network: Segmentor, card: Card, picture: Callable[..., torch.Tensor], tmp_path: Path
) -> None:
    form = ExecuTorch(size=[49, 81])
    run, said = form.load(write(form, network, card, tmp_path))
    assert Description.from_json(said, "the file").size == (49, 81)
    images = torch.cat([picture(49, 81, seed) for seed in (1, 2)])
    with torch.no_grad():
        wanted = network(images)
    assert len(wanted.argmax(1).unique()) > 2
    torch.testing.assert_close(torch.from_numpy(run(images.numpy())), wanted, rtol=0, atol=1e-4)
    require_parity(compare(network, run, form), form)
    (tmp_path / "no.pte").write_bytes(b"no program")
    with pytest.raises(AtrousError, match=r"no.pte is not an ExecuTorch file that can be run"):
        form.load(tmp_path / "no.pte")


@pytest.mark.parametrize(("result", "kind"), [("labels", np.uint8), ("probabilities", np.float32)])
def test_other_results_and_one_size(
    result: Any, kind: type, network: Segmentor, card: Card, picture: Callable[..., torch.Tensor], tmp_path: Path
) -> None:
    form = Onnx(result=result, size=[49, 81])
    run, said = form.load(write(form, network, card, tmp_path))
    image = torch.cat([picture(49, 81, seed) for seed in (1, 2)])
    given = run(image.numpy())
    with torch.no_grad():
        probabilities = copy.deepcopy(network).double()(image).softmax(1)
    assert given.dtype == kind
    if result == "labels":
        assert (given == probabilities.argmax(1).numpy()).mean() > 0.999
    else:
        np.testing.assert_allclose(given, probabilities, atol=1e-5)
    assert Description.from_json(said, "").size == (49, 81)
    require_parity(compare(network, run, form), form)


def test_impossible_sizes() -> None:
    for size in ([5], [0, 100], [1, 2, 3]):
        with pytest.raises(AtrousError, match=r"format.size"):
            Onnx(size=size)


def test_a_missing_package_names_the_extra() -> None:
    with pytest.raises(AtrousError, match=r"writing needs the package nowhere, .*pip install 'atrous\[export\]'"):
        needed("nowhere.to.be.found", "writing")
