"""The record of benchmark runs, and the comparison of two of them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from atrous.commands.benchmark.command import run_suite
from atrous.commands.benchmark.history import append, read
from atrous.errors import AtrousError


def result(processor: str = "one", **ratios: float) -> dict[str, Any]:
    rows = [{"case": case, "ratio": ratio} for case, ratio in ratios.items()]
    return {"suite": "train", "rows": [*rows, {"case": "alone", "ratio": None}], "machine": {"processor": processor}}


def compare(folder: Path, **options: int) -> tuple[dict[str, Any], str]:
    console = Console(file=io.StringIO(), width=200)
    compared = run_suite("compare", {"record": str(folder), "of": "train", **options}, console)
    assert isinstance(console.file, io.StringIO)
    return compared, console.file.getvalue()


def test_every_run_is_a_line(tmp_path: Path) -> None:
    append(tmp_path / "records", result(a=1.23456789))
    path = append(tmp_path / "records", result(a=2.0))
    assert path == tmp_path / "records" / "train.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line["rows"][0]["ratio"] for line in lines] == [1.235, 2.0]
    assert lines[0]["time"] <= lines[1]["time"]
    assert read(tmp_path / "records", "train") == lines


def test_where_files_lie_is_not_kept(tmp_path: Path) -> None:
    python = tmp_path / "bin" / "python"
    options = {"mmseg_python": str(python), "tflite": None, "networks": [{"backbone": "a/b"}], "files": [str(tmp_path)]}
    path = append(tmp_path, {**result(a=1.0), "options": options})
    assert str(tmp_path) not in path.read_text(encoding="utf-8")
    (line,) = read(tmp_path, "train")
    assert line["options"] == {**options, "mmseg_python": "python", "files": [tmp_path.name]}


def test_a_ratio_that_fell_by_more_than_a_tenth_is_a_complaint(tmp_path: Path) -> None:
    append(tmp_path, result(a=2.0, b=1.0, gone=1.0))
    append(tmp_path, result(a=1.81, b=1.5, new=3.0))
    compared, said = compare(tmp_path)
    assert compared["rows"] == [
        {"case": "a", "before": 2.0, "after": 1.81},
        {"case": "b", "before": 1.0, "after": 1.5},
    ]
    assert "+50%" in said
    assert "not the same machine" not in said
    append(tmp_path, result("another", a=1.62, b=1.5, new=2.69))
    with pytest.raises(AtrousError, match=r"^2 of 3 ratios of suite=train fell by more than a tenth: a, new$"):
        compare(tmp_path)
    with pytest.raises(AtrousError, match=r"fell by more than a tenth: a$"):
        compare(tmp_path, before=0)
    append(tmp_path, result(other=1.0))
    with pytest.raises(AtrousError, match="no row in common"):
        compare(tmp_path)


def test_other_machines_are_named(tmp_path: Path) -> None:
    append(tmp_path, result(a=1.0))
    append(tmp_path, result("another", a=1.0))
    assert "not the same machine: one, then another" in compare(tmp_path)[1]


def test_records_that_are_missing_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(AtrousError, match="there is no record of suite=train"):
        compare(tmp_path)
    append(tmp_path, result(a=1.0))
    with pytest.raises(AtrousError, match="there is no run -2 among 1"):
        compare(tmp_path)
    with (tmp_path / "train.jsonl").open("a", encoding="utf-8") as file:
        file.write("{\n")
    with pytest.raises(AtrousError, match=r"line 2 of .*train\.jsonl is not JSON"):
        compare(tmp_path)
