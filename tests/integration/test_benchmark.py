from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def run(repository: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(repository / "src" / "benchmark.py"), *overrides]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_augment_suite_writes_its_figures(repository: Path, tmp_path: Path) -> None:
    done = run(
        repository,
        "augment.cases=[[64,96,65]]",
        "augment.samples=2",
        "augment.repetitions=2",
        f"hydra.run.dir={tmp_path}",
    )
    assert done.returncode == 0, done.stderr
    assert "64x96" in done.stdout
    assert json.loads((tmp_path / "augment.json").read_text())["rows"][0]["crop"] == 65


def test_unknown_suite_is_one_sentence(repository: Path, tmp_path: Path) -> None:
    done = run(repository, "suite=speed", f"hydra.run.dir={tmp_path}")
    assert done.returncode == 2
    assert "no benchmark suite 'speed'; choose one of augment" in done.stderr
    assert "Traceback" not in done.stderr
