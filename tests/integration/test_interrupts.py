"""Ctrl-C and SIGTERM end a run with its own status, a resume point and a sentence; nothing that was learned is lost."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from omegaconf import DictConfig
from torch import Tensor

from atrous.commands.evaluate import command as evaluate
from atrous.commands.train import command as entry_point
from atrous.errors import RunInterrupted

pytestmark = pytest.mark.integration

Compose = Callable[..., DictConfig]
OPTIONS = (
    "backbone=timm", "backbone.name=test_resnet", "model.head.aspp_channels=8", "model.head.decoder_channels=8",
    "data.dataset.size=64", "data.dataset.lengths={train: 8, val: 2, test: 2}", "data.eval_batch_size=1",
    "augment.crop_size=33", "data.batch_size=2", "trainer=cpu", "logger=csv", "trainer.max_steps=8", "validate_every=4",
)  # fmt: skip
IN_PROCESS = (*OPTIONS, "data.num_workers=0", "callbacks=minimal", "trainer.log_every_n_steps=1")


class Signal(Callback):
    """Sends this process a signal at a chosen moment."""

    def __init__(self, number: signal.Signals, moment: str, step: int) -> None:
        self.number, self.moment, self.step, self.sent = number, moment, step, False

    def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
        if self.moment == "training" and trainer.global_step == self.step:
            self.send()

    def on_validation_batch_start(self, trainer: Any, *args: Any) -> None:
        if trainer.sanity_checking == (self.moment == "sanity check") and trainer.global_step == self.step:
            self.send()

    def send(self) -> None:
        """Once: a second signal ends the process at once."""
        if not self.sent:
            self.sent = True
            os.kill(os.getpid(), self.number)


def train(
    composed: Compose, run: str, monkeypatch: pytest.MonkeyPatch, *words: str, sent: Signal | None = None
) -> Path:
    config = composed("train", *IN_PROCESS, *words, run=run)
    build_trainer = entry_point.build_trainer

    def with_signal(config: DictConfig, *others: Callback) -> Any:
        trainer = build_trainer(config, *others)
        trainer.callbacks[:0] = [] if sent is None else [sent]
        return trainer

    with monkeypatch.context() as patch:
        patch.setattr(entry_point, "build_trainer", with_signal)
        entry_point.train(config)
    return Path(config.paths.run)


def weights(run: Path) -> dict[str, Tensor]:
    loaded: dict[str, Tensor] = torch.load(run / "checkpoints" / "last.ckpt")["state_dict"]
    return loaded


@pytest.fixture(scope="module")
def handlers() -> list[Any]:
    return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


@pytest.mark.parametrize(
    ("moment", "step", "accumulate", "continues"),
    [
        ("training", 1, 1, 2),  # within a stretch of four: after this step
        ("training", 1, 2, 2),
        ("training", 3, 1, 3),  # the last step of a stretch: it is done again with its validation
        ("training", 3, 2, 3),
        ("validation", 4, 1, 3),
        ("validation", 8, 1, 7),  # the last one
    ],
)
def test_an_interrupted_run_equals_an_uninterrupted_one(
    moment: str, step: int, accumulate: int, continues: int, composed: Compose, monkeypatch: pytest.MonkeyPatch,
    handlers: list[Any],
) -> None:  # fmt: skip
    word = f"trainer.accumulate_grad_batches={accumulate}"
    whole = train(composed, "whole", monkeypatch, word)
    number = signal.SIGTERM if accumulate == 1 else signal.SIGINT
    with pytest.raises(RunInterrupted) as stop:
        train(composed, "broken", monkeypatch, word, sent=Signal(number, moment, step))
    assert stop.value.status == 128 + number
    said = re.fullmatch(rf"stopped by {number.name} at step (\d+); `(.*)` resumes from step (\d+)", str(stop.value))
    assert said is not None, str(stop.value)
    assert int(said[1]) == (step if moment == "validation" else step + 1)
    assert int(said[3]) == continues
    broken = whole.parent / "broken"
    assert shlex.split(said[2]) == ["python", "src/train.py", f"ckpt_path={broken}"]
    assert torch.load(broken / "checkpoints" / "last.ckpt")["global_step"] == continues
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers

    resumed = train(composed, "broken", monkeypatch, word, "ckpt_path=last")
    expected, got = weights(whole), weights(resumed)
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    assert (whole / "metrics.csv").read_text() == (resumed / "metrics.csv").read_text()


def test_before_the_first_step_there_is_nothing_to_save(composed: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RunInterrupted, match="at step 0, before a resume point was written"):
        train(composed, "broken", monkeypatch, sent=Signal(signal.SIGTERM, "sanity check", 0))


def test_scoring_stops_in_the_middle(composed: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    run = train(composed, "trained", monkeypatch, "trainer.max_steps=4")
    build_trainer = evaluate.build_trainer

    class SignalInTest(Callback):
        def on_test_batch_start(self, *args: Any) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    def with_signal(config: DictConfig, *others: Callback) -> Any:
        trainer = build_trainer(config, *others)
        trainer.callbacks.insert(0, SignalInTest())
        return trainer

    monkeypatch.setattr(evaluate, "build_trainer", with_signal)
    with pytest.raises(RunInterrupted, match="stopped by SIGTERM in batch 1; the same command starts again") as stop:
        evaluate.evaluate(composed("evaluate", f"ckpt_path={run}", "trainer=cpu", run="scored"))
    assert stop.value.status == 143
    assert not (run.parent / "scored" / "scores.json").exists()


def children(pid: int) -> set[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return {int(word) for word in found.stdout.split()}


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended may still be listed until its parent has asked for its status."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith("Z")


def wait_for_the_end(pids: set[int], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(map(alive, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.long
@pytest.mark.parametrize(("number", "to_all"), [(signal.SIGTERM, False), (signal.SIGINT, True)])
def test_several_processes_stop_at_the_same_step(
    number: signal.Signals, to_all: bool, repository: Path, tmp_path: Path
) -> None:
    """Whichever of them gets the signal; the status is that of the first, and all are gone."""
    script = str(repository / "src" / "train.py")
    words = [*OPTIONS, "trainer=ddp_cpu", "data.batch_size=4", "trainer.max_steps=4000", "validate_every=2000"]
    process = subprocess.Popen(
        [sys.executable, script, *words, f"paths.logs={tmp_path}"], cwd=repository, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 200
    while not list(tmp_path.rglob("last.ckpt")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    others = children(process.pid)
    (os.killpg if to_all else os.kill)(process.pid, number)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 128 + number, errors
    (line,) = [line for line in errors.splitlines() if "stopped" in line]
    said = re.fullmatch(rf"stopped by {number.name} at step (\d+); `.*` resumes from step \1", line)
    assert said is not None, line
    (last,) = tmp_path.rglob("last.ckpt")
    assert torch.load(last)["global_step"] == int(said[1])
    assert others
    wait_for_the_end(others, seconds=10)
    assert len(list(tmp_path.glob("train/*/*"))) == 1, "one folder for all of them"


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_ends_with_its_own_status_and_no_worker(
    number: signal.Signals, repository: Path, tmp_path: Path
) -> None:
    """The signal goes to the whole group, as a terminal sends it; then the command that was said runs."""
    script = str(repository / "src" / "train.py")
    words = [*OPTIONS, "trainer.max_steps=4000", "validate_every=2000", f"paths.logs={tmp_path}", "name=stopped"]
    process = subprocess.Popen(
        [sys.executable, script, *words], cwd=repository, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(tmp_path.rglob("last.ckpt")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    workers = children(process.pid)
    assert workers
    os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number, errors
    (line,) = [line for line in errors.splitlines() if "stopped" in line]
    said = re.fullmatch(rf"stopped by {number.name} at step (\d+); `python (.*)` resumes from step \1", line)
    assert said is not None, line
    assert "Traceback" not in errors
    assert not any(map(alive, workers))
    assert not list(tmp_path.rglob("*.partial"))
    if number == signal.SIGTERM:
        process = subprocess.Popen(
            [sys.executable, *shlex.split(said[2])], cwd=repository, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        beginning = next(line for line in process.stdout if line.startswith("training on"))
        assert beginning.rstrip().endswith(f"last.ckpt at step {said[1]}"), beginning
        process.kill()
        process.wait()
        assert len(list(tmp_path.glob("train/stopped/*"))) == 1, "in the folder of the run"
