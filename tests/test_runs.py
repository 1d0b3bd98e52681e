"""Run folders: nobody shares one, the newest is found, a lock keeps a second process out."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest

from atrous.errors import AtrousError
from atrous.runs import (
    RECORD,
    checkpoint_to_continue,
    checkpoint_to_use,
    claim_folder,
    locked,
    newest_run,
    release_unused_folders,
    run_of,
)


def claim_many(parent: Path, count: int) -> list[str]:
    return [str(claim_folder(parent)) for _ in range(count)]


@pytest.fixture(autouse=True)
def no_claims() -> None:
    """Those of earlier tests."""
    release_unused_folders()


def test_no_two_processes_get_the_same_folder(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        claimed = list(chain.from_iterable(pool.starmap(claim_many, [(tmp_path / "runs", 25)] * 4)))
    assert len(set(claimed)) == 100
    assert all(Path(folder).is_dir() for folder in claimed)


def run_folder(parent: Path, name: str, *checkpoints: str, record: bool = True) -> Path:
    folder = parent / name
    (folder / "checkpoints").mkdir(parents=True)
    for checkpoint in checkpoints:
        (folder / "checkpoints" / checkpoint).touch()
    if record:
        (folder / RECORD).touch()
    return folder


def test_the_newest_run_is_the_one_that_was_started_last(tmp_path: Path) -> None:
    """Neither the one that saved last nor a folder in which nothing began."""
    assert newest_run(tmp_path) is None
    for name in ("2026-01-02_03-04-05", "2026-01-02_03-04-05_9", "2025-12-31_23-59-59"):
        run_folder(tmp_path, name)
    newest = run_folder(tmp_path, "2026-01-02_03-04-05_10")
    run_folder(tmp_path, "2026-02-01_00-00-00", record=False)
    assert newest_run(tmp_path) == newest


def test_a_folder_stands_for_its_best_or_its_last_checkpoint(tmp_path: Path) -> None:
    run = run_folder(tmp_path, "run", "best.ckpt", "last.ckpt")
    best, last = (run / "checkpoints" / name for name in ("best.ckpt", "last.ckpt"))
    assert checkpoint_to_use(run) == best
    assert checkpoint_to_continue(run) == last
    assert checkpoint_to_continue(best) == best
    assert run_of(best) == run
    assert run_of(tmp_path / "somewhere.ckpt") is None
    last.unlink()
    with pytest.raises(AtrousError, match=r"run holds no checkpoints/last\.ckpt"):
        checkpoint_to_continue(run)
    best.rename(last)
    assert checkpoint_to_use(run) == last
    with pytest.raises(AtrousError, match=r"there is no checkpoint .*nothing\.ckpt"):
        checkpoint_to_use(tmp_path / "nothing.ckpt")


def test_folders_are_left_only_where_something_came_of_them(tmp_path: Path) -> None:
    empty, started, used = (claim_folder(tmp_path) for _ in range(3))
    others = tmp_path / "others"
    others.mkdir()
    (started / "tensorboard").mkdir()
    (started / "train.log").touch()
    (used / "train.log").touch()
    (used / "scores.json").touch()
    release_unused_folders()
    assert not empty.exists()
    assert not started.exists()
    assert used.exists()
    assert others.exists(), "only what this process claimed"


def test_a_run_has_one_process(tmp_path: Path) -> None:
    """Another process is kept out, and let in when the first one is killed, even while a child of it lives on."""
    program = (
        "import os, sys, time; from atrous.runs import locked\n"
        "with locked(sys.argv[1]):\n"
        "    if os.fork(): print('locked', flush=True)\n"
        "    time.sleep(60)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(Path(__file__).parents[1] / "src")},
        start_new_session=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        with (
            pytest.raises(AtrousError, match=rf"is still running in another process \(id {holder.pid}\)"),
            locked(tmp_path),
        ):
            pass
        holder.kill()
        holder.wait()
        with locked(tmp_path):
            pass
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(holder.pid, signal.SIGKILL)
