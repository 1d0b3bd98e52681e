"""Several trainings with one command line."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.loggers.wandb_files import records
from tests.reports.pages.reading import Read

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.mark.long
def test_a_multirun_ends_in_a_page_that_compares_its_runs(
    command: Callable[..., subprocess.CompletedProcess[str]], tiny_options: tuple[str, ...], tmp_path: Path, drawn: None
) -> None:
    """In W&B they are one group."""
    wandb = ["logger=wandb", "logger.wandb.offline=true", "logger.wandb.log_model=false"]
    words = ["-m", *tiny_options, *wandb, "seed=0,1", f"hydra.sweep.dir={tmp_path / 'both'}"]
    done = command("train.py", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    page = tmp_path / "both" / "report.html"
    assert f"all runs on one page: {page}" in done.stdout.replace("\n", "")
    read = Read(page)
    assert [row[0] for row in read.rows[1:3]] == ["0: seed=0", "1: seed=1"]
    assert [address for address in read.addresses if address.endswith(".html")] == ["0/report.html", "1/report.html"]
    assert "python src/train.py -m" in read.text
    headers = [each.run for each in records(tmp_path / "both" / "0") if each.HasField("run")]
    assert [each.run_group for each in headers] == ["both"]
    assert not [path for path in tmp_path.iterdir() if path.name != "both"]
