from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration


Command = Callable[..., subprocess.CompletedProcess[str]]


def test_augment_suite_writes_its_figures(command: Command, tmp_path: Path) -> None:
    done = command(
        "benchmark.py",
        "augment.cases=[[64,96,65]]",
        "augment.samples=2",
        "augment.repetitions=2",
        f"hydra.run.dir={tmp_path}",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "64x96" in done.stdout
    assert json.loads((tmp_path / "augment.json").read_text())["rows"][0]["crop"] == 65


def test_unknown_suite_is_one_sentence(command: Command, tmp_path: Path) -> None:
    done = command("benchmark.py", "suite=speed", f"hydra.run.dir={tmp_path}", cwd=tmp_path)
    assert done.returncode == 2
    assert "no benchmark suite 'speed'; choose one of augment" in done.stderr
    assert "Traceback" not in done.stderr
