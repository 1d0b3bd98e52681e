"""Our convolutions beside PyTorch's."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from atrous.commands.benchmark.command import run_suite
from atrous.errors import AtrousError

SMALL = {"shapes": [[1, 16, 9, 3, 2]], "rounds": 3, "threads": 1}


def run(**options: Any) -> tuple[dict[str, Any], str]:
    console = Console(file=io.StringIO(), width=200)
    result = run_suite("convolution", {**SMALL, **options}, console)
    assert isinstance(console.file, io.StringIO)
    return result, console.file.getvalue()


@pytest.mark.parametrize("layer", ["depthwise", "full"])
def test_ratios_are_those_of_the_times(layer: str) -> None:
    result, said = run(ways=["holes", "auto"], layer=layer)
    assert [row["case"] for row in result["rows"]] == [f"{p} {layer} 1x16x9x3x2" for p in ("fp32", "bf16")]
    for row in result["rows"]:
        assert row["ms"].keys() == {"F.conv2d", "holes", "auto"}
        assert row["ratio"] == row["ms"]["F.conv2d"]["median"] / row["ms"]["holes"]["median"]
        assert result["means"][row["precision"]] == pytest.approx(row["ratio"])
    assert "geometric mean" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shapes": [[1, 2, 3]]}, "must name batch, channels, map, kernel and rate"),
        ({"shapes": [[1, 16, 9, 3, 0]]}, "must name"),
        ({"precisions": ["fp16"]}, "choose among fp32, bf16"),
        ({"ways": []}, "choose among auto"),
        ({"layer": "grouped"}, "choose among depthwise, full"),
        ({"rounds": 0}, "convolution.rounds=0"),
        ({"threads": 0}, "convolution.threads=0"),
    ],
)
def test_impossible_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(AtrousError, match=message):
        run(**options)
