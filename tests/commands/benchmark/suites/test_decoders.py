"""Decoders of DUpsampling: operations as the paper counts them, and times of the same layers."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from rich.console import Console

import atrous
from atrous.commands.benchmark.command import run_suite
from atrous.commands.benchmark.suites.decoders import ROWS, Decoder, Row, inputs_of, operations
from atrous.errors import AtrousError

LARGEST = next(row for row in ROWS if row.miou is None)
"""The one that did not fit into the authors' memory; they counted it with another stem."""


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_decoder_costs_what_the_paper_prints(row: Row) -> None:
    tolerance = 0.04 if row is LARGEST else 0.02
    assert operations(row, (513, 513), classes=21) == pytest.approx(row.operations, rel=tolerance)


@pytest.mark.parametrize("row", [ROWS[4], ROWS[6]], ids=lambda row: row.name)
def test_a_decoder_is_what_the_model_has_after_its_aspp(row: Row) -> None:
    names = {"b1u2c3": "layer1", "b3u6c3": "layer3"}
    model = atrous.create(
        "dupsampling",
        "resnet50",
        num_classes=21,
        output_stride=16,
        pretrained=False,
        overrides=[
            "+backbone.taps=[layer1,layer3,layer4]",
            f"model.head.low_level=[{','.join(names[each.name] for each in row.maps)}]",
            f"model.head.fusion={row.fusion}",
            *(["upsampler=bilinear"] if row.fusion == "vanilla" else ["upsampler.weights=random"]),
        ],
    )
    theirs = {
        name: tuple(value.shape) for name, value in model.head.state_dict().items() if not name.startswith("aspp.")
    }
    decoder = Decoder(row, classes=21)
    assert {name: tuple(value.shape) for name, value in decoder.head.state_dict().items()} == theirs
    logits = decoder.eval()(inputs_of(row, (65, 97)), (65, 97))
    assert logits.shape[:2] == (1, 21)


def small(**options: Any) -> dict[str, Any]:
    return run_suite("decoders", {"size": [33, 49], "rounds": 1, "threads": 1, **options}, Console(file=io.StringIO()))


def test_ratios_are_of_decoders_with_the_same_maps() -> None:
    threads = torch.get_num_threads()
    rows = {row["case"]: row for row in small()["rows"]}
    proposed, vanilla = rows["ResNet-50, proposed, b1u2c3"], rows["ResNet-50, vanilla, b1u2c3"]
    assert proposed["ratio"] == pytest.approx(vanilla["ms"]["median"] / proposed["ms"]["median"])
    assert {name for name, row in rows.items() if row["ratio"]} == {
        "ResNet-50, proposed, b1u2c3",
        "ResNet-50, proposed, conv1_3 + b3u6c3",
        "Xception-65, proposed, efb2u1c2",
        "Xception-65, proposed, mfb1u16c3",
    }
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"size": [33]}, "decoders.size"),
        ({"size": [8, 33]}, "decoders.size"),
        ({"rounds": 0}, "decoders.rounds=0 must be at least 1"),
    ],
)
def test_impossible_options(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(AtrousError, match=sentence.replace("[", r"\[")):
        small(**options)
