"""Loaders that die or hang, two trainings in one folder, and clocks that jump: one sentence, and nothing lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.torture.test_kills import HERE, OPTIONS, left_over, result

pytestmark = pytest.mark.torture

TRAIN = str(HERE.parents[1] / "src" / "train.py")


def started(folder: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, TRAIN, *words, f"paths.logs={folder}"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE), "MARK": str(folder), **environment},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
    )  # fmt: skip


def errors(process: subprocess.Popen[str], status: int) -> str:
    _, said = process.communicate(timeout=200)
    assert process.returncode == status, said
    assert "Traceback" not in said
    return next((line for line in said.splitlines() if line.startswith("error:")), "")


@pytest.mark.parametrize(("fault", "words"), [("dies", "has died"), ("hangs", "hangs")])
def test_a_loader_process_that_fails_ends_the_training_with_a_sentence(fault: str, words: str, tmp_path: Path) -> None:
    data = ("data.dataset._target_=faulty.FaultyShapes", "data.timeout=5")
    said = errors(started(tmp_path, *OPTIONS, *data, FAULT=fault), 1)
    assert f"error: a process that loads data {words}" in said
    assert "go on with ckpt_path=<run folder>" in " ".join(said.split())
    assert left_over(tmp_path) == []


@pytest.mark.parametrize("how", ["new", "resumed"])
def test_of_two_trainings_in_one_folder_one_is_refused(how: str, tmp_path: Path) -> None:
    """Which one is left to chance; the other one becomes what it would have become."""
    whole = tmp_path / "whole"
    assert errors(started(whole, *OPTIONS), 0) == ""
    run = tmp_path / "run"
    words = (*OPTIONS, f"paths.run={run}")
    if how == "resumed":
        assert started(tmp_path, *words, KILL="stepping:9").wait(timeout=200) == -9
        words = (f"ckpt_path={run}", OPTIONS[-1])
    both = [started(tmp_path, *words) for _ in range(2)]
    said = [(each.communicate(timeout=200)[1], each.returncode) for each in both]
    assert sorted(status for _, status in said) == [0, 2], said
    (refused,) = (text for text, status in said if status == 2)
    assert f"the run {run} is still running in another process" in refused or "has already" in refused
    wanted, _ = result(whole)
    found = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert all(torch.equal(found["state_dict"][name], tensor) for name, tensor in wanted["state_dict"].items())


def test_a_clock_that_jumps_changes_nothing(tmp_path: Path) -> None:
    for name, more in (("true", ()), ("jumping", ("+callbacks.clock._target_=faulty.Clock",))):
        assert errors(started(tmp_path / name, *OPTIONS, *more), 0) == ""
    (wanted, curve), (found, jumped) = result(tmp_path / "true"), result(tmp_path / "jumping")
    assert jumped == curve
    assert all(torch.equal(found["state_dict"][name], tensor) for name, tensor in wanted["state_dict"].items())
