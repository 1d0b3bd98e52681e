"""The trainings of a sweep: each a process of its own, some at a time, skipped when done and resumed when stopped."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, Any

from atrous.atomic_file import atomic_file
from atrous.errors import AtrousError, RunInterrupted
from atrous.places import IMPORTED_FROM, quoted
from atrous.runs import CHECKPOINTS

_BETWEEN_LOOKS = 0.2  # seconds
_PROGRAM = ("-m", "atrous")


@dataclass
class Training:
    """One training with one seed, and the ways in which it is scored.

    Attributes:
        label: What it is, in words.
        folder: Of the run.
        train: Overrides of the training.
        evaluate: Overrides of each evaluation.
        seed: Of weights, order and augmentation.
    """

    label: str
    folder: Path
    train: Sequence[str]
    evaluate: list[tuple[str, ...]] = field(default_factory=list)
    seed: int = 0

    def score(self, words: Sequence[str]) -> dict[str, Any] | None:
        """What an evaluation wrote; ``None`` before there is anything.

        Raises:
            AtrousError: The file is damaged.
        """
        file = self._file(words)
        if not file.is_file():
            return None
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise AtrousError(f"{file} is damaged ({error}): remove it to score again") from error
        assert isinstance(found, dict)
        return found

    @property
    def missing(self) -> list[tuple[str, ...]]:
        """Evaluations that have not been done."""
        return [words for words in self.evaluate if not self._file(words).is_file()]

    def commands(self) -> Iterator[list[str]]:
        """What is still to do, one command line after another; each counts on the one before."""
        last = self.folder / CHECKPOINTS / "last.ckpt"
        if not (self.folder / _TRAINED).is_file():
            if last.is_file():
                yield ["train", _setting("ckpt_path", self.folder)]
            else:
                yield ["train", *self.train, f"seed={self.seed}", _setting("paths.run", self.folder)]
            (self.folder / _TRAINED).touch()
        missing, output = self.missing, self.folder / "scores" / "measured.json"
        if missing:
            protocols = ",".join(quoted(shlex.join(words)) for words in missing)
            yield [
                "evaluate",
                _setting("ckpt_path", last),
                f"protocols=[{protocols}]",
                _setting("output", output),
                _setting("paths.run", self.folder / "scores"),
            ]
            self._keep(missing, json.loads(output.read_text(encoding="utf-8")))

    def forget_checkpoints(self) -> None:
        """Remove the weights."""
        shutil.rmtree(self.folder / CHECKPOINTS, ignore_errors=True)

    def _keep(self, missing: Sequence[tuple[str, ...]], found: Mapping[str, Any]) -> None:
        measured = found.get("measurements", [found])
        for words, each in zip(missing, measured, strict=True):
            with atomic_file(self._file(words)) as file:
                file.write(json.dumps({"evaluate": list(words), **each}, indent=2).encode())

    def _file(self, words: Sequence[str]) -> Path:
        return self.folder / "scores" / f"{hashlib.sha256(shlex.join(words).encode()).hexdigest()[:12]}.json"


_TRAINED = "trained"
"""A file that says that a training has come to its end."""


def _setting(key: str, path: Path) -> str:
    return f"{key}={quoted(str(path))}"


@dataclass
class _Process:
    training: Training
    rest: Iterator[list[str]]
    log: IO[bytes]
    began: float = field(default_factory=time.monotonic)
    running: subprocess.Popen[bytes] | None = None

    def advance(self, environment: Mapping[str, str]) -> bool:
        """Start the next command; whether there was one."""
        words = next(self.rest, None)
        if words is None:
            return False
        self.log.write(f"$ atrous {shlex.join(words)}\n".encode())
        self.log.flush()
        line = [sys.executable, *_PROGRAM, *words]
        # a session of its own: Ctrl-C reaches it through us alone
        self.running = subprocess.Popen(
            line, stdout=self.log, stderr=subprocess.STDOUT, env=dict(environment), start_new_session=True
        )
        return True

    def sentence(self) -> str:
        """Why its last command ended, in its own words."""
        assert self.running is not None
        lines = Path(self.log.name).read_text(encoding="utf-8", errors="replace").splitlines()
        said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        return said[-1] if said else f"ended with status {self.running.returncode}"


def run_all(
    trainings: Sequence[Training],
    *,
    jobs: int,
    done: Callable[[Training, float], None],
    failed: Callable[[Training, str], None],
) -> None:
    """Train and score, some at a time.

    Args:
        trainings: What is to do, in this order.
        jobs: Processes at a time, which share the cores.
        done: Called with every training at its end, and the seconds that it took.
        failed: Called with every training that ended otherwise, and why; the others go on.

    Raises:
        RunInterrupted: A signal came; all processes have stopped at a point from which they go on.
    """
    environment = _environment(jobs)
    waiting, running = list(trainings), list[_Process]()
    try:
        with _signals_as_interrupts():
            while waiting or running:
                while waiting and len(running) < jobs:
                    training = waiting.pop(0)
                    training.folder.mkdir(parents=True, exist_ok=True)
                    log = (training.folder / "log.txt").open("ab")
                    running.append(_Process(training, training.commands(), log))
                    running[-1].advance(environment)
                time.sleep(_BETWEEN_LOOKS)
                for process in [each for each in running if each.running is None or each.running.poll() is not None]:
                    if process.running is not None and process.running.returncode:
                        failed(process.training, process.sentence())
                    elif process.advance(environment):
                        continue
                    else:
                        done(process.training, time.monotonic() - process.began)
                    process.log.close()
                    running.remove(process)
    finally:
        for process in running:
            _stop(process)


def _stop(process: _Process) -> None:
    """Let a process write its resume point."""
    if process.running is not None and process.running.poll() is None:
        process.running.send_signal(signal.SIGTERM)
        process.running.wait()
    process.log.close()


def _environment(jobs: int) -> dict[str, str]:
    """That of the processes: they find this package, and none takes the cores of another one."""
    path = os.pathsep.join([str(IMPORTED_FROM), *filter(None, [os.environ.get("PYTHONPATH")])])
    threads = {} if jobs == 1 else {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs))}
    return {**os.environ, "PYTHONPATH": path, **threads}


@contextlib.contextmanager
def _signals_as_interrupts() -> Iterator[None]:
    """SIGTERM, like Ctrl-C, ends the block with ``RunInterrupted``."""
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    name = signal.Signals(number).name
    raise RunInterrupted(f"stopped by {name}: the same command goes on where the trainings are", 128 + number)
