from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from atrous.commands.benchmark.suites.data import run
from atrous.errors import AtrousError

SMALL: dict[str, Any] = {"crops": (33, 33), "sizes": ((40, 50), (48, 64)), "images": 2, "repetitions": 2}


def test_ways_and_parts_of_both_data_sets(capsys: pytest.CaptureFixture[str]) -> None:
    result = run(Console(width=160), **SMALL)
    assert [row["case"] for row in result["rows"]] == ["VOC 40x50 crop 33", "Cityscapes 48x64 crop 33"]
    for row in result["rows"]:
        times = row["milliseconds"]
        assert list(times) == ["albumentations", "torchvision", "ours", "ours, cache"]
        assert all(each > 0 for each in (*times.values(), *row["parts"].values()))
        assert row["ratios"]["ours, cache to torchvision"] == pytest.approx(times["torchvision"] / times["ours, cache"])
        assert times["ours, cache"] < times["ours"], "what is decoded already is not decoded again"
    said = capsys.readouterr().out
    assert "where the time of ours goes" in said


def test_a_data_set_of_the_user(voc_folder: Path, cityscapes_folder: Path) -> None:
    result = run(Console(width=160), voc=str(voc_folder.parent), cityscapes=str(cityscapes_folder), **SMALL)
    assert [row["images"] for row in result["rows"]] == [2, 2]


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ({"images": 0}, r"data\.images=0"),
        ({"repetitions": 0}, r"data\.repetitions=0"),
        ({"crops": (33,)}, "one for Cityscapes"),
        ({"sizes": ((40, 50), (48,))}, "a size is two numbers"),
    ],
)
def test_impossible_values(option: dict[str, object], sentence: str) -> None:
    with pytest.raises(AtrousError, match=sentence):
        run(Console(), **{**SMALL, **option})
