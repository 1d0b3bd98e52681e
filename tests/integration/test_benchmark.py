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
        "suite=augment",
        f"record={tmp_path}/records",
        "augment.cases=[[64,96,65]]",
        "augment.samples=2",
        "augment.repetitions=2",
        f"hydra.run.dir={tmp_path}",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "64x96" in done.stdout
    assert json.loads((tmp_path / "augment.json").read_text())["rows"][0]["crop"] == 65
    (line,) = (tmp_path / "records" / "augment.jsonl").read_text(encoding="utf-8").splitlines()
    kept = json.loads(line)
    assert kept["rows"][0]["crop"] == 65
    assert kept["options"]["samples"] == 2
    assert {"processor", "commit", "float32_gflops"} <= kept["machine"].keys()
    assert "GFLOP/s" in done.stdout
    compared = command(
        "benchmark.py", "suite=compare", "compare.of=augment", f"record={tmp_path}/records", cwd=tmp_path
    )
    assert compared.returncode == 2
    assert "there is no run -2 among 1; run the suite again" in compared.stderr


def test_unknown_suite_is_one_sentence(command: Command, tmp_path: Path) -> None:
    done = command("benchmark.py", "suite=speed", f"hydra.run.dir={tmp_path}", cwd=tmp_path)
    assert done.returncode == 2
    assert "no benchmark suite 'speed'; choose one of augment, compare, convolution" in done.stderr
    assert "Traceback" not in done.stderr
