"""Processes that a launcher started together: one folder for all of them, the same one after a restart."""

from __future__ import annotations

import itertools
import os
import re
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from torch.distributed import TCPStore

from atrous import launch
from atrous.errors import AtrousError, ProcessLost
from atrous.launch import Launch, Slurm, TorchRun, find_launch, together

Started = Callable[..., Launch]
NAMES = ("TORCHELASTIC", "SLURM", "RANK", "MASTER")


@pytest.fixture(autouse=True)
def started_by_a_person(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(NAMES):
            monkeypatch.delenv(name)


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> Started:
    def start(rank: int, restarts: int = 0, job: str = "77", step: str = "0") -> Launch:
        for name, value in {"JOB_ID": job, "PROCID": rank, "STEP_ID": step, "RESTART_COUNT": restarts}.items():
            monkeypatch.setenv(f"SLURM_{name}", str(value))
        found = find_launch()
        assert isinstance(found, Slurm)
        return found

    return start


@pytest.fixture
def torchrun(monkeypatch: pytest.MonkeyPatch) -> Started:
    """Processes of one agent, whose store this is."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=5))

    def start(rank: int, restarts: int = 0) -> Launch:
        values = {"TORCHELASTIC_RUN_ID": "my/run", "TORCHELASTIC_RESTART_COUNT": restarts, "RANK": rank}
        for name, value in {**values, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": store.port}.items():
            monkeypatch.setenv(name, str(value))
        found = find_launch()
        assert isinstance(found, TorchRun)
        return found

    return start


@pytest.fixture(params=["slurm", "torchrun"])
def started(request: pytest.FixtureRequest) -> Started:
    found: Started = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def claim() -> Callable[[Path], Path]:
    """Count folders up."""
    numbers = itertools.count()

    def next_folder(parent: Path) -> Path:
        folder = parent / f"run {next(numbers)}"
        folder.mkdir(parents=True)
        return folder

    return next_folder


def test_people_are_no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_launch() is None
    for name in ("SLURM_JOB_ID", "SLURM_PROCID"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("SLURM_JOB_NAME", "interactive")
    assert find_launch() is None
    monkeypatch.setenv("SLURM_JOB_NAME", "my training")
    assert find_launch() is not None


def test_all_have_the_folder_that_the_first_claims(
    started: Started, claim: Callable[[Path], Path], tmp_path: Path
) -> None:
    """Also those that ask before it does."""
    ranks = [started(rank) for rank in (3, 1, 2, 0)]
    with ThreadPoolExecutor(4) as processes:
        folders = list(processes.map(lambda each: each.folder(tmp_path / "runs", claim), ranks))
    assert folders == 4 * [tmp_path / "runs" / "run 0"]


def test_a_restart_keeps_it_and_a_new_start_does_not(
    started: Started, claim: Callable[[Path], Path], tmp_path: Path
) -> None:
    first = started(0).folder(tmp_path, claim)
    assert started(0, restarts=1).folder(tmp_path, claim) == first
    assert started(1, restarts=1).folder(tmp_path, claim) == first
    assert started(0).folder(tmp_path, claim) != first


def test_commands_jobs_and_parents_have_folders_of_their_own(
    slurm: Started, claim: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [{"job": job, "step": step} for job, step in (("1", "0"), ("1", "1"), ("2", "0"))]
    folders = [slurm(0, **each).folder(tmp_path, claim) for each in steps]
    assert [slurm(1, **each).folder(tmp_path, claim) for each in steps] == folders
    monkeypatch.setattr(sys, "argv", ["train.py", "seed=1"])
    other = slurm(0, restarts=1, job="1", step="0").folder(tmp_path, claim)
    elsewhere = slurm(0, restarts=1, job="1", step="0").folder(tmp_path / "b", claim)
    assert len({*folders, other, elsewhere}) == 5


def test_silence_is_one_sentence(started: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "PATIENCE", 0.3)
    with pytest.raises(AtrousError, match="process 1 has not heard from process 0 which folder the run has: "):
        started(1).folder(tmp_path, lambda parent: parent)


def test_a_store_that_is_not_there_is_one_sentence(
    torchrun: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = torchrun(0)
    monkeypatch.setattr(launch, "PATIENCE", 1)
    monkeypatch.setenv("MASTER_PORT", "9")
    with pytest.raises(AtrousError, match=r"torchrun's store at 127\.0\.0\.1:9 cannot be reached \("):
        process.folder(tmp_path, lambda parent: parent)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo $* > asked", "job 77 is queued again"),
        ("echo no such job >&2; exit 1", r"job 77 could not be queued again \(no such job\)"),
        (None, r"job 77 could not be queued again \(.*scontrol.*\)"),
    ],
)
def test_queueing_again(
    script: str | None, said: str, slurm: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    if script is not None:
        (tmp_path / "scontrol").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "scontrol").chmod(0o755)
    assert re.fullmatch(said, str(slurm(0).requeue()))
    assert script is None or "asked" not in script or (tmp_path / "asked").read_text() == "requeue 77\n"


def test_torchrun_queues_nothing(torchrun: Started) -> None:
    assert torchrun(0).requeue() is None


@pytest.mark.parametrize(
    "said", ["[pair.cc:553] Connection closed by peer [127.0.0.1]:4", "NCCL communicator was aborted on rank 0."]
)
def test_a_lost_process_is_one_sentence(said: str) -> None:
    words = "another process of this run has ended, so all of them do; try again"
    with pytest.raises(ProcessLost, match=words), together(2, lambda: "try again"):
        raise RuntimeError(said)
    with pytest.raises(RuntimeError, match=re.escape(said)), together(1, lambda: "try again"):
        raise RuntimeError(said)
    with pytest.raises(RuntimeError, match="sizes differ"), together(2, lambda: "try again"):
        raise RuntimeError("sizes differ")
