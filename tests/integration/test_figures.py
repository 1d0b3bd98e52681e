"""Figures from the command line."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., subprocess.CompletedProcess[str]]
pytestmark = pytest.mark.integration


def test_figures_are_written_for_light_and_dark_pages(command: Command, tmp_path: Path) -> None:
    done = command("figures.py", "name=[gridding,learning_rates]", f"output={tmp_path}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    names = {path.name for path in tmp_path.iterdir()}
    assert {f"gridding{theme}.{form}" for theme in ("", "_dark") for form in ("svg", "png")} <= names
    light, dark = (tmp_path / f"gridding{theme}.svg" for theme in ("", "_dark"))
    assert light.read_bytes() != dark.read_bytes()


def test_a_figure_that_is_not_there_names_those_that_are(command: Command, tmp_path: Path) -> None:
    done = command("figures.py", "name=griding", f"output={tmp_path}", cwd=tmp_path)
    assert done.returncode == 2
    assert "there is no figure name=griding; choose all, or from" in done.stderr
    assert "gridding" in done.stderr


def test_a_figure_without_its_network_says_how_to_get_it(command: Command, tmp_path: Path) -> None:
    lacks = [f"real={tmp_path}", f"paths.runs={tmp_path}", f"sweeps={tmp_path}", f"output={tmp_path}"]
    done = command("figures.py", "name=crf_iterations", *lacks, cwd=tmp_path)
    assert done.returncode == 2
    assert "python src/train.py experiment=demo" in done.stderr
    done = command("figures.py", "name=upsamplers", *lacks, cwd=tmp_path)
    assert done.returncode == 2
    assert "python src/sweep.py sweep=upsampler" in done.stderr
