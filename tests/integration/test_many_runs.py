"""Many runs with one command: what fails, what is done, what was interrupted, and settings that are searched."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from omegaconf import OmegaConf

pytestmark = [pytest.mark.integration, pytest.mark.long]

SPY = """
import os, signal
from pathlib import Path
from lightning.pytorch import Callback
class Spy(Callback):
    def on_validation_epoch_end(self, trainer, module):
        rate = module._learning_rate  # the smaller, the better
        module.log("val/made_up", 1 - rate)
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if os.environ.get("STOP") == f"{module._learning_rate}:{trainer.global_step}":
            os.kill(os.getpid(), signal.SIGTERM)
    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        killed = Path(os.environ.get("KILL", "/nowhere/at/all"))
        if trainer.global_step == 4 and killed.parent.is_dir() and Path(trainer.callbacks[0]._folder).name == "1":
            if not killed.exists():
                killed.touch()
                os.kill(os.getpid(), signal.SIGKILL)
"""
PLAIN = ("+callbacks.spy._target_=spy.Spy", "callbacks.panels=null", "callbacks.report=null", "trainer=cpu")
EACH = ("callbacks.last.every=1",)

Start = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def start(repository: Path, tmp_path: Path, tiny_options: tuple[str, ...]) -> Start:
    """Start trainings in a process of its own."""
    (tmp_path / "spy.py").write_text(SPY, encoding="utf-8")

    def many(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(repository / "src" / "train.py"), "-m", *tiny_options, *PLAIN, *words,
             f"paths.logs={tmp_path / 'logs'}"],
            cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tmp_path), **environment},
            capture_output=True, encoding="utf-8", timeout=280,
        )  # fmt: skip

    return many


def outcome(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "outcome.json").read_text(encoding="utf-8"))
    return found


def steps(folder: Path) -> list[int]:
    """Steps whose validation is on record."""
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        return [int(row["step"]) + 1 for row in csv.DictReader(file) if row.get("val/miou")]


def flat(text: str) -> str:
    return " ".join(text.split())


def test_a_failed_run_is_listed_and_finished_ones_are_not_run_again(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    words = (f"hydra.sweep.dir={folder}", "task.learning_rate=0.01,-1,0.02")
    done = start(*words)
    assert done.returncode == 1
    assert [outcome(folder / str(number))["status"] for number in range(3)] == ["finished", "failed", "finished"]
    assert "2 finished, 1 failed" in done.stdout
    assert "1 failed: task.learning_rate=-1 must be greater than 0" in flat(done.stdout)
    assert "Traceback" not in done.stderr
    written = {path: path.stat().st_mtime_ns for path in folder.glob("*/checkpoints/*.ckpt")}
    assert len(written) == 6

    again = start(*words)
    assert again.returncode == 1
    assert flat(again.stdout).count("finished before, so it is not run again") == 2
    assert written == {path: path.stat().st_mtime_ns for path in folder.glob("*/checkpoints/*.ckpt")}

    other = start(f"hydra.sweep.dir={folder}", "task.learning_rate=0.03")
    assert other.returncode == 2
    assert "belongs to a run with other settings" in other.stderr


def test_an_interrupted_multirun_says_how_it_goes_on(start: Start, tmp_path: Path) -> None:
    words = ("task.learning_rate=0.01,0.02", *EACH)
    stopped = start(*words, STOP="0.02:4")
    assert stopped.returncode == 128 + signal.SIGTERM
    (folder,) = (tmp_path / "logs" / "multirun").iterdir()
    assert [outcome(folder / name)["status"] for name in "01"] == ["finished", "begun"]
    said = flat(stopped.stderr)
    assert "task.learning_rate=0.01,0.02" in said
    assert f"hydra.sweep.dir={folder}` goes on with all runs" in said

    done = start(*words, f"hydra.sweep.dir={folder}")
    assert done.returncode == 0, done.stderr
    assert flat(done.stdout).count("finished before, so it is not run again") == 1
    assert "last.ckpt at step 5" in flat(done.stdout)
    assert [steps(folder / name) for name in "01"] == [[3, 6], [3, 6]]


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_launchers_start_runs_at_the_same_time(start: Start, tmp_path: Path, launcher: str) -> None:
    folder = tmp_path / "many"
    more = {"joblib": ["hydra.launcher.n_jobs=2"], "submitit_local": ["hydra.launcher.timeout_min=5"]}[launcher]
    done = start(
        f"hydra.sweep.dir={folder}",
        f"hydra/launcher={launcher}",
        *more,
        "task.learning_rate=0.01,-1",
        "data.num_workers=0",
    )
    assert done.returncode == 1, done.stderr
    assert "1 finished, 1 failed" in done.stdout
    assert steps(folder / "0") == [3, 6]


def test_a_killed_search_goes_on_with_the_run_that_was_killed(start: Start, tmp_path: Path) -> None:
    words = (
        "hydra/sweeper=optuna", "hydra.sweeper.runs=3", "hydra.sweeper.study=s", "hydra.sweeper.monitor=val/made_up",
        "hydra.sweeper.pruner=none", "task.learning_rate=tag(log,interval(0.0001,0.01))", *EACH,
    )  # fmt: skip
    killed = start(*words, KILL=str(tmp_path / "killed"))
    assert killed.returncode == -signal.SIGKILL
    folder, storage = tmp_path / "logs" / "studies" / "s", f"sqlite:///{tmp_path}/logs/studies/studies.db"
    assert [trial.state.name for trial in optuna.load_study(study_name="s", storage=storage).trials] == [
        "COMPLETE", "RUNNING"
    ]  # fmt: skip

    done = start(*words)
    assert done.returncode == 0, done.stderr
    study = optuna.load_study(study_name="s", storage=storage)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 3
    assert "from the checkpoint" in flat(done.stdout), "the killed run did not go on"
    assert [steps(folder / str(number)) for number in range(3)] == [[3, 6]] * 3
    rates = [float(trial.params["task.learning_rate"]) for trial in study.trials]
    assert study.best_trial.number == rates.index(min(rates))
    assert study.best_value == pytest.approx(1 - min(rates), abs=1e-6)
    assert f"task.learning_rate={min(rates)}" in OmegaConf.load(folder / "best.yaml")

    assert start(*words).returncode == 0, "nothing is left to do"
    assert len(optuna.load_study(study_name="s", storage=storage).trials) == 3
    refused = start(*words[:-2], "task.learning_rate=tag(log,interval(0.0001,0.1))", *EACH)
    assert refused.returncode == 2
    assert "the study s began with another space (task.learning_rate differ)" in refused.stderr


@pytest.mark.parametrize(("pruner", "pruned"), [("median", True), ("none", False)])
def test_worse_runs_end_early(start: Start, tmp_path: Path, pruner: str, pruned: bool) -> None:
    done = start(
        "hydra/sweeper=optuna", "hydra.sweeper.runs=6", "hydra.sweeper.monitor=val/made_up", "hydra.sweeper.startup=1",
        f"hydra.sweeper.pruner={pruner}", "hydra.sweeper.sampler=random", "task.learning_rate=0.001,0.01,0.1,0.02,-1",
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    folder, best = tmp_path / "logs" / "studies" / "train", 10.0
    found = [outcome(folder / str(number)) for number in range(6)]
    for number, each in enumerate(found):
        (rate,) = (float(word.partition("=")[2]) for word in each["overrides"] if "learning_rate" in word)
        if rate < 0:
            assert each["status"] == "failed"
            continue
        assert each["status"] == ("pruned" if pruned and rate > best else "finished"), number
        assert steps(folder / str(number)) == ([3] if each["status"] == "pruned" else [3, 6])
        best = min(best, rate)
    counts = {each: sum(outcome["status"] == each for outcome in found) for each in ("pruned", "failed")}
    assert counts == {"pruned": 3 if pruned else 0, "failed": 1}
    storage = f"sqlite:///{tmp_path}/logs/studies/studies.db"
    states = [trial.state.name.lower() for trial in optuna.load_study(study_name="train", storage=storage).trials]
    assert states == [{"finished": "complete", "failed": "fail", "pruned": "pruned"}[each["status"]] for each in found]
