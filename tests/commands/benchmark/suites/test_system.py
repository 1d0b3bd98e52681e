"""The stages of a prediction."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from atrous.commands.benchmark.command import run_suite
from atrous.commands.benchmark.suites.system import STAGES, _time
from atrous.commands.predict.predictor import Predictor
from atrous.errors import AtrousError
from atrous.inference import Inference
from atrous.inference.inference import Band

SMALL = {
    "networks": [["deeplabv3plus", "resnet18"]],
    "inference": {"_target_": "atrous.inference.WholeImage"},
    "size": [40, 60],
    "rounds": 2,
    "threads": 1,
}


def run(**options: Any) -> tuple[dict[str, Any], str]:
    console = Console(file=io.StringIO(), width=400)
    result = run_suite("system", {**SMALL, **options}, console)
    assert isinstance(console.file, io.StringIO)
    return result, console.file.getvalue()


def test_the_networks_share_of_the_whole() -> None:
    result, said = run()
    (row,) = result["rows"]
    medians = {name: stage["median"] for name, stage in row["ms"].items()}
    assert tuple(medians) == STAGES
    assert row["ratio"] == pytest.approx(medians["network"] / sum(medians.values()))
    assert row["images_per_second"] == pytest.approx(1000 / sum(medians.values()))
    assert row["case"] == "deeplabv3plus resnet18 40x60 os16 32"
    assert f"{row['ratio']:.0%}" in said
    assert "Titan X" in said
    result, _ = run(inference={"_target_": "atrous.inference.MultiScale", "flip": True})
    assert result["rows"][0]["case"] == "deeplabv3plus resnet18 40x60 os16 32 MultiScale"


class Sleepy(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        time.sleep(0.03)
        return torch.zeros(len(image), 21, *image.shape[2:])


class TwiceAndSleepy(Inference):
    """Two passes of the network, and a stage of its own."""

    def bands(self, segmentor: Any, image: Tensor) -> Iterator[Band]:
        logits: Tensor = segmentor(image) + segmentor(image)
        time.sleep(0.1)
        yield slice(0, logits.shape[2]), logits


def test_time_is_counted_where_it_is_spent() -> None:
    network: Any = Sleepy()
    predictor = Predictor(network, TwiceAndSleepy(), device=torch.device("cpu"))
    stages = _time(predictor, network, size=(20, 30), overlay=False, rounds=3)
    assert 60 <= stages["network"].low < 90
    assert 100 <= stages["inference"].low < 130
    assert {stage.rounds for stage in stages.values()} == {3}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": [40]}, r"system.size=\[40\] must be height and width"),
        ({"networks": [["deeplabv3plus"]]}, r"system.networks: \['deeplabv3plus'\] must name model and backbone"),
        ({"precision": 8}, "precision=8 is unknown"),
        ({"rounds": 0}, r"system.rounds=0 must be at least 1"),
    ],
)
def test_impossible_options(options: dict[str, Any], words: str) -> None:
    with pytest.raises(AtrousError, match=words):
        run(**options)
