"""Stopping on Ctrl-C, SIGTERM and SIGUSR1 without losing a step."""

from __future__ import annotations

import os
import shlex
import signal
from types import FrameType
from typing import Any, NoReturn

from lightning.pytorch import Callback, LightningModule, Trainer

from atrous.callbacks.resume_point import ResumePoint
from atrous.errors import RunInterrupted
from atrous.launch import find_launch

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Interrupts(Callback):
    """Writes a resume point and ends the run at the first signal; a second one ends the process at once.

    Training stops after the next optimizer step, as soon as that is in the logs. If a validation follows that step, or
    is already running, the resume point is the one written one step before it: the whole validation is repeated, along
    with its step.

    SIGUSR1 is what SLURM sends before the time of a job is over (``#SBATCH --signal=SIGUSR1@120``): the job is queued
    again then, and continues. SIGTERM is not answered like this, because ``scancel`` sends it too.

    Args:
        resume_with: The command that a run is resumed with, before its ``ckpt_path``.
    """

    def __init__(self, resume_with: str) -> None:
        self._resume_with = resume_with
        self._signal: signal.Signals | None = None
        self._saved = False

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over the signals."""
        self._listen()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over the signals."""
        self._listen()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over the signals."""
        self._listen()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if a signal has arrived and an optimizer step is complete; stop if a validation comes next."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches or not self._received(trainer):
            return
        if batch_idx + 1 == trainer.num_training_batches:
            self._stop_training(trainer)
        for point in _resume_points(trainer):
            point.save(trainer)
        self._saved = True

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Stop after the resume point; Lightning has logged the step before it by now."""
        if self._saved:
            self._stop_training(trainer)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop; several processes have shares of different lengths and continue to the next step instead."""
        if self._signal is not None and trainer.world_size == 1:
            self._stop_training(trainer)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop a test in the middle; nothing of it is kept."""
        if self._signal is not None:
            self._stop(trainer, f"in batch {batch_idx + 1}; the same command starts again")

    def _listen(self) -> None:
        """Replace Lightning's handlers, which it installs before a stage and removes after it."""
        for number in SIGNALS:
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._signal is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._signal = signal.Signals(number)

    def _received(self, trainer: Trainer) -> bool:
        """Whether any process has received a signal; all of them stop at the same step."""
        received = self._signal is not None
        if trainer.world_size > 1:
            received = trainer.strategy.reduce_boolean_decision(received, all=False)
        return received

    def _stop_training(self, trainer: Trainer) -> NoReturn:
        saved = [point for point in _resume_points(trainer) if point.path.is_file()]
        if not saved:
            self._stop(trainer, f"at step {trainer.global_step}, before a resume point was written")
        run = saved[0].path.parent.parent
        resumes = f"`{self._resume_with} {shlex.quote(f'ckpt_path={run}')}` resumes from step {saved[0].saved_step}"
        self._stop(trainer, f"at step {trainer.global_step}; {resumes}")

    def _stop(self, trainer: Trainer, where: str) -> NoReturn:
        received = self._signal or signal.SIGTERM  # another process got it
        status = 128 + received if trainer.is_global_zero else 0
        launch = find_launch()
        if received == signal.SIGUSR1 and launch is not None and trainer.is_global_zero:
            where = "; ".join(filter(None, (where, launch.requeue())))
        raise RunInterrupted(f"stopped by {received.name} {where}", status)


def _resume_points(trainer: Trainer) -> list[ResumePoint]:
    return [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ResumePoint)]
