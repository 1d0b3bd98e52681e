"""Figures and summary of a run, kept up to date while it runs."""

from __future__ import annotations

import math
import time
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from torch import Tensor

from atrous.callbacks.best_checkpoint import keeps_best
from atrous.callbacks.scored_module import ScoredModule
from atrous.loggers import image_loggers
from atrous.memory import peak_memory
from atrous.places import command
from atrous.reports import ScoreEntry, confusion_figure, curves_figure, score_table, write_summary
from atrous.reports.pages import RunPage, write_run_page
from atrous.terminal import open_console, say


class RunReport(Callback):
    """Draws figures and writes the summary after every validation; prints the scores of each class at the end.

    The run's folder gets figures/confusion.png, figures/curves.png (from metrics.csv), summary.md and summary.json with
    the best and the last scores; a killed run has them too. Without a ``ModelCheckpoint`` no best weights are
    kept, and only the last scores are reported. Loggers that show images get the confusion matrix and the
    table of classes. Best and last scores are part of a checkpoint and survive a resume, so the callback that writes
    the checkpoint to resume from has to come after this one. When training ends, stops or fails, it also gets
    report.html, a page with all of this and the record of the run.

    Args:
        run_dir: Folder of the run.
        title: Heading of the summary; the name of the folder if None.
        program: Name of the command that trains.
    """

    def __init__(self, run_dir: str | Path, *, title: str | None = None, program: str = "train") -> None:
        self._folder = Path(run_dir)
        self._title = title or self._folder.name
        self._program = program
        self._best: ScoreEntry | None = None
        self._last: ScoreEntry | None = None
        self._confusion: Tensor | None = None  # of the best, or of the last where no best weights are kept
        self._classes: tuple[str, ...] = ()
        self._before = 0.0  # seconds of earlier starts
        self._begun: float | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at the clock."""
        self._begun = time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the scores and draw."""
        module = cast("ScoredModule", pl_module)
        scores, confusion = module.last_scores, module.last_confusion
        if trainer.sanity_checking or trainer.state.fn != "fit" or scores is None or confusion is None:
            return
        classes = self._classes = module.label_space.classes
        step = trainer.global_step
        self._last = ScoreEntry("last", scores, module.protocol("val", checkpoint="last.ckpt"), step=step)
        better = self._best is None or scores.miou > self._best.scores.miou or math.isnan(self._best.scores.miou)
        if better and keeps_best(trainer):
            self._best = ScoreEntry("best", scores, module.protocol("val", checkpoint="best.ckpt"), step=step)
        if better or self._best is None:
            self._confusion = confusion
        if not trainer.is_global_zero:
            return
        matrix = confusion_figure(confusion, classes)
        figures = self._folder / "figures"
        figures.mkdir(parents=True, exist_ok=True)
        matrix.savefig(figures / "confusion.png")
        curves_figure(self._folder / "metrics.csv").savefig(figures / "curves.png")
        self._write(trainer, pl_module)
        rows = list(zip(classes, map(_cell, scores.iou), map(_cell, scores.accuracy), strict=True))
        for logger in image_loggers(trainer.loggers):
            logger.log_figure("confusion_matrix", matrix, step)
            logger.log_table("classes", ("class", "IoU", "accuracy"), rows, step)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the summary one last time, print the run's scores, and log the confusion matrix as numbers."""
        module = cast("ScoredModule", pl_module)
        self._classes = module.label_space.classes
        if not trainer.is_global_zero:
            return
        self._write(trainer, pl_module)
        self._write_page(trainer, pl_module)
        result = self._best or self._last
        if result is not None:
            console = Console()
            console = console if console.is_terminal else Console(width=120)
            console.print(score_table(result.scores, self._classes, result.protocol))
        if module.last_confusion is not None:
            rows = [[name, *row] for name, row in zip(self._classes, module.last_confusion.tolist(), strict=True)]
            for logger in image_loggers(trainer.loggers):
                logger.log_table("confusion_counts", ("truth", *self._classes), rows, trainer.global_step)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Write the page of a run that stops or fails, if it has begun."""
        if trainer.is_global_zero and self._begun is not None:
            self._classes = cast("ScoredModule", pl_module).label_space.classes
            self._write_page(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Best and last scores, confusion and the time taken, as plain data."""
        entries = {"best": self._best, "last": self._last}
        return {
            "classes": list(self._classes),
            "confusion": None if self._confusion is None else self._confusion.tolist(),
            "seconds": self._seconds(),
            **{name: entry.to_dict(self._classes) for name, entry in entries.items() if entry is not None},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume from the checkpoint's scores."""
        self._classes = tuple(state_dict["classes"])
        self._best = ScoreEntry.from_dict(state_dict["best"]) if "best" in state_dict else None
        self._last = ScoreEntry.from_dict(state_dict["last"]) if "last" in state_dict else None
        confusion = state_dict.get("confusion")  # checkpoints of version 0.1.0 have none
        self._confusion = None if confusion is None else torch.tensor(confusion)
        self._before = state_dict.get("seconds", 0.0)

    def _seconds(self) -> float:
        return self._before + (0.0 if self._begun is None else time.monotonic() - self._begun)

    def _facts(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, str | int | float]:
        trained = sum(parameter.numel() for parameter in pl_module.parameters() if parameter.requires_grad)
        return {
            "steps": trainer.global_step if trainer.max_steps < 1 else f"{trainer.global_step} of {trainer.max_steps}",
            "trained parameters": f"{trained:,}",
            "processes": trainer.world_size,
            "precision": str(trainer.precision),
        }

    def _entries(self) -> list[ScoreEntry]:
        return [entry for entry in (self._best, self._last) if entry is not None]

    def _write(self, trainer: Trainer, pl_module: LightningModule) -> None:
        write_summary(
            self._folder,
            self._entries(),
            cast("ScoredModule", pl_module).label_space,
            title=self._title,
            facts=self._facts(trainer, pl_module),
            pictures=("figures/curves.png", "figures/confusion.png", "panels/latest.png"),
        )

    def _write_page(self, trainer: Trainer, pl_module: LightningModule) -> None:
        device = pl_module.device
        memory = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_memory()
        page = RunPage(
            kind="Training",
            title=self._title,
            command=command(self._program),
            label_space=cast("ScoredModule", pl_module).label_space,
            scores=self._entries(),
            confusion=self._confusion,
            facts={
                **self._facts(trainer, pl_module),
                "time": str(timedelta(seconds=round(self._seconds()))),
                "peak memory": f"{memory / 1e9:.1f} GB",
            },
        )
        path = write_run_page(self._folder, page)
        say(open_console(), f"all of it on one page: {path}")


def _cell(value: float) -> float | None:
    return None if math.isnan(value) else value
