"""A run on another number of processes and workers than it began with, and one that loses a process."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

pytestmark = [pytest.mark.integration, pytest.mark.long]

SPY = r"""
import json, os, signal
from lightning.pytorch import Callback
class Spy(Callback):
    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        with open(f"draws_{trainer.global_rank}.jsonl", "a") as file:
            file.write(json.dumps([trainer.global_step, batch["name"]]) + "\n")
        if trainer.global_step == int(os.environ.get("STOP", -1)):
            os.kill(os.getpid(), signal.SIGTERM)
"""
SPIED = ("+callbacks.spy._target_=spy.Spy",)
STEADY = ("task.freeze_batch_norm=true", "model.head.dropout=0", "trainer.max_steps=12", "validate_every=6")
LENGTHS = ("data.dataset.lengths={train: 10, val: 4, test: 2}",)

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(repository: Path, tiny_options: tuple[str, ...]) -> Start:
    """Start training in a folder, which then has a spy."""

    def start_training(folder: Path, *words: str, **environment: object) -> subprocess.Popen[str]:
        folder.mkdir(exist_ok=True)
        (folder / "spy.py").write_text(SPY, encoding="utf-8")
        script = [sys.executable, str(repository / "src" / "train.py"), *words, f"paths.logs={folder / 'logs'}"]
        more = {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            script, cwd=folder, env={**os.environ, **more, **{name: str(each) for name, each in environment.items()}},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    return start_training


def ended(process: subprocess.Popen[str], status: int = 0, seconds: float = 250) -> str:
    """What it said on its way out."""
    _, errors = process.communicate(timeout=seconds)
    assert process.returncode == status, errors
    return errors


def draws(folder: Path) -> dict[int, list[str]]:
    """Names of the images of each step, over all processes."""
    found: dict[int, list[str]] = defaultdict(list)
    for path in folder.glob("draws_*.jsonl"):
        for line in path.read_text(encoding="utf-8").splitlines():
            step, names = json.loads(line)
            found[step] += names
    return {step: sorted(names) for step, names in found.items()}


def losses(folder: Path) -> list[float]:
    (path,) = folder.rglob("metrics.csv")
    with path.open(encoding="utf-8") as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row.get("train/loss")]


def test_processes_and_workers_may_change(start: Start, tiny_options: tuple[str, ...], tmp_path: Path) -> None:
    """Two processes with two workers, one with eight, and two again: the same draws, none lost, none twice."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    words = (*tiny_options, *STEADY, *LENGTHS, "trainer.log_every_n_steps=1")
    ended(start(whole, *words, *SPIED, "trainer=cpu"))
    two, one = ("trainer=ddp_cpu", "data.num_workers=2"), ("trainer=cpu", "data.num_workers=8")
    ended(start(broken, *words, *SPIED, *two, STOP=4), 128 + signal.SIGTERM)
    ended(start(broken, "ckpt_path=last", *SPIED, *one, STOP=9), 128 + signal.SIGTERM)
    ended(start(broken, "ckpt_path=last", *SPIED, *two))

    assert draws(whole) == draws(broken)
    assert sorted(draws(whole)) == list(range(1, 13))
    assert all(len(names) == 4 for names in draws(whole).values())
    assert losses(broken) == pytest.approx(losses(whole), rel=1e-4)
    assert len(losses(whole)) == 12
    one_by_one = [
        torch.load(next(each.rglob("last.ckpt")), weights_only=True)["state_dict"] for each in (whole, broken)
    ]
    for name, tensor in one_by_one[0].items():
        torch.testing.assert_close(tensor, one_by_one[1][name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("which", ["first", "second"])
def test_a_process_that_is_killed_ends_the_others(
    which: str, start: Start, tiny_options: tuple[str, ...], tmp_path: Path
) -> None:
    words = (*tiny_options, *LENGTHS, "trainer=ddp_cpu", "trainer.max_steps=4000", "validate_every=2000")
    process = start(tmp_path / "run", *words)
    deadline = time.monotonic() + 200
    while not list(tmp_path.rglob("last.ckpt")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.1)
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True)
    (other,) = (
        int(pid) for pid in listed.stdout.split() if b"LOCAL_RANK=1" in Path(f"/proc/{pid}/environ").read_bytes()
    )
    os.kill(process.pid if which == "first" else other, signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    ours = "error: another process of this run has ended, so all of them do; `python src/train.py ckpt_path="
    lightnings = "terminated with code -9. Forcefully terminating all other processes"  # which looks every five seconds
    assert ours in errors or (which == "second" and lightnings in errors)
    assert process.returncode in ((-signal.SIGKILL,) if which == "first" else (1, -signal.SIGKILL))
    assert "Traceback" not in errors
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(other)], capture_output=True, text=True).stdout
    assert state.strip()[:1] in ("", "Z")
