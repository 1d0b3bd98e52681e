"""Processes of a sweep, with commands that end at once in place of trainings."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from atrous.commands.sweep import trainings
from atrous.commands.sweep.trainings import Training, run_all
from atrous.errors import AtrousError, RunInterrupted

pytestmark = pytest.mark.integration


class Quick(Training):
    """Calls commands that are given."""

    lines: tuple[list[str], ...] = ()

    def commands(self) -> Iterator[list[str]]:
        yield from self.lines


def quick(folder: Path, *lines: list[str]) -> Quick:
    training = Quick(folder.name, folder, [])
    training.lines = lines
    return training


def test_a_training_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    done, failed = [], []
    jobs = [
        quick(tmp_path / "a", ["--help"], ["nothing"], ["--help"]),
        quick(tmp_path / "b", ["--help"], ["--help"]),
        quick(tmp_path / "c"),
    ]
    run_all(
        jobs,
        jobs=2,
        done=lambda training, seconds: done.append(training.label),
        failed=lambda training, sentence: failed.append((training.label, sentence)),
    )
    assert sorted(done) == ["b", "c"]
    ((label, sentence),) = failed
    assert label == "a"
    assert sentence.startswith("there is no command 'nothing'")
    log = (tmp_path / "a" / "log.txt").read_text(encoding="utf-8")
    assert log.count("$ atrous") == 2, "nothing follows a command that fails"


def test_a_signal_ends_all_and_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that would run for a minute is told to stop, and is waited for."""
    program = (
        "import os, signal, time\n"
        "def stop(*_):\n"
        "    open('stopped', 'w').write(str(os.getsid(0)))\n"
        "    os._exit(0)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "time.sleep(60)"
    )
    monkeypatch.chdir(tmp_path)
    started = threading.Timer(1.5, lambda: os.kill(os.getpid(), signal.SIGTERM))
    monkeypatch.setattr(trainings, "_PROGRAM", ("-c", program))
    began = time.monotonic()
    started.start()
    with pytest.raises(RunInterrupted, match="stopped by SIGTERM: the same command goes on") as stopped:
        run_all([quick(tmp_path / "a", [""])], jobs=1, done=lambda *_: None, failed=lambda *_: None)
    assert stopped.value.status == 143
    session = int((tmp_path / "stopped").read_text(encoding="utf-8"))
    assert session != os.getsid(0), "Ctrl-C would reach it twice, which ends a training without its resume point"
    assert time.monotonic() - began < 30
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_new_training_begins_and_a_stopped_one_goes_on(tmp_path: Path) -> None:
    training = Training("a, seed 3", tmp_path, ["experiment=demo"], evaluate=[("x=1",)], seed=3)
    assert next(training.commands()) == ["train", "experiment=demo", "seed=3", f"paths.run='{tmp_path}'"]
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    assert next(training.commands()) == ["train", f"ckpt_path='{tmp_path}'"]


def test_scores_are_kept_one_by_one_and_not_asked_for_again(tmp_path: Path) -> None:
    words = [("a=1",), ("b=2",)]
    training = Training("a", tmp_path, [], evaluate=words)
    lines = training.commands()
    assert next(lines)[0] == "train"
    evaluation = next(lines)
    assert evaluation[0] == "evaluate"
    assert "protocols=['a=1','b=2']" in evaluation
    (tmp_path / "scores").mkdir()
    measured = {"measurements": [{"miou": 0.1}, {"miou": 0.2}]}
    (tmp_path / "scores" / "measured.json").write_text(json.dumps(measured), encoding="utf-8")
    assert next(lines, None) is None
    scores = [training.score(each) or {} for each in words]
    assert [score["miou"] for score in scores] == [0.1, 0.2]
    again = Training("a", tmp_path, [], evaluate=[*words, ("c=3",)])
    assert again.missing == [("c=3",)]
    (line,) = [next(again.commands())]
    assert line[0] == "evaluate", "the training is not repeated"
    assert "protocols=['c=3']" in line


def test_a_damaged_score_is_named(tmp_path: Path) -> None:
    training = Training("a", tmp_path, [], evaluate=[()])
    training._keep([()], {"miou": 0.1})
    (file,) = (tmp_path / "scores").iterdir()
    file.write_text("{", encoding="utf-8")
    with pytest.raises(AtrousError, match="is damaged"):
        training.score(())
