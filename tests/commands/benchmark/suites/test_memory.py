"""Probabilities take little memory besides the network; measured in processes of their own."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from atrous.commands.benchmark.command import run_suite
from atrous.commands.benchmark.suites import memory
from atrous.errors import AtrousError

WHOLE = {"_target_": "atrous.inference.WholeImage"}


def measure(repository: Path, folder: Path, cases: str) -> list[dict[str, Any]]:
    command = [sys.executable, str(repository / "src" / "benchmark.py"), "suite=memory", "record=null"]
    done = subprocess.run(
        [*command, f"memory.cases={cases}", f"hydra.run.dir={folder}"], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads((folder / "memory.json").read_text())["rows"]
    return rows


@pytest.mark.long
def test_scores_are_made_within_300_megabytes(repository: Path, tmp_path: Path) -> None:
    """Above the network alone; a score of all probabilities at once takes both copies of them."""
    small, many = measure(repository, tmp_path, "[[1024,2048,19],[1000,1500,150]]")
    assert small["case"] == "1024x2048x19"
    for row in (small, many):
        assert row["network"] > 1e8
        assert row["bands"] - row["network"] < 3e8
    numbers = 4 * 150 * 1000 * 1500
    assert many["whole_measured"]
    assert many["whole"] > 2 * numbers
    assert many["whole"] - many["bands"] > numbers


def test_impossible_options_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO())
    good: dict[str, Any] = {"network": ["deeplabv3plus", "resnet18"], "inference": WHOLE, "cases": [[33, 33, 2]]}
    for change, message in (
        ({"network": ["resnet18"]}, "must name model and backbone"),
        ({"cases": [[33, 33]]}, "must be height, width and number of classes"),
        ({"cases": [[33, 33, 0]]}, "must be height, width and number of classes"),
        ({"threads": 0}, r"memory\.threads=0"),
    ):
        with pytest.raises(AtrousError, match=message):
            run_suite("memory", {**good, **change}, console)
    monkeypatch.setattr(memory, "forget_peak_memory", lambda: False)
    with pytest.raises(AtrousError, match="suite=memory needs Linux"):
        run_suite("memory", good, console)
