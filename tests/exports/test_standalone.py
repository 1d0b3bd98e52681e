"""The module that leaves: the network's own numbers at any size, in three kinds."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pytest
import torch

from atrous.crf import DenseCRF
from atrous.errors import AtrousError
from atrous.exports import Standalone
from atrous.exports.standalone import Result, graph_of
from atrous.models import Segmentor

SIZES = [(65, 97), (64, 90), (33, 17), (1, 1)]


@pytest.fixture(scope="module")
def leaving(network: Segmentor) -> dict[str, Standalone]:
    return {result: Standalone(network, result) for result in get_args(Result)}


@pytest.mark.parametrize("size", SIZES)
def test_it_computes_what_the_network_does(
    network: Segmentor, leaving: dict[str, Standalone], size: tuple[int, int]
) -> None:
    image = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    with torch.no_grad():
        logits, given = network(image), {result: module(image) for result, module in leaving.items()}
    assert given["logits"].shape == (2, 5, *size)
    torch.testing.assert_close(given["logits"], logits, rtol=0, atol=1e-4)
    torch.testing.assert_close(given["probabilities"], logits.softmax(1), rtol=0, atol=1e-4)
    assert given["labels"].dtype == torch.uint8
    assert given["labels"].shape == (2, *size)
    assert (given["labels"] == logits.argmax(1)).float().mean() > 0.99


def test_the_network_itself_stays_as_it_is(network: Segmentor) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    Standalone(network)
    assert before.keys() == network.state_dict().keys()
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in before.items())


def test_no_batch_norm_is_left(network: Segmentor, leaving: dict[str, Standalone]) -> None:
    def norms(module: torch.nn.Module) -> list[torch.nn.Module]:
        return [each for each in module.modules() if isinstance(each, torch.nn.BatchNorm2d)]

    assert len(norms(network)) > 5
    assert norms(leaving["logits"]) == []


def test_what_cannot_leave_is_refused(network: Segmentor) -> None:
    with pytest.raises(AtrousError, match=r"format.result=scores is unknown; choose one of logits, probabilities"):
        Standalone(network, "scores")
    network.crf = DenseCRF()
    try:
        with pytest.raises(AtrousError, match=r"ends in a CRF .* which no exported file can hold"):
            Standalone(network)
    finally:
        network.crf = None


def test_a_window_of_pooling_needs_one_size(lively: Callable[..., Segmentor]) -> None:
    pooling = lively("deeplabv3", "timm", "model.head.image_pooling=129")
    with pytest.raises(AtrousError, match=r"images of any size: set format.size=\[<height>,<width>\]"):
        graph_of(Standalone(pooling), None)
    graph = graph_of(Standalone(pooling), (65, 97))
    image = torch.randint(0, 256, (3, 3, 65, 97), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(graph.module()(image), pooling(image), rtol=0, atol=1e-4)
