"""Progress of a run: bars in a terminal, a few plain lines in a log file."""

from __future__ import annotations

import math
import time
from datetime import timedelta
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import Progress, TaskID

from atrous.errors import require_range
from atrous.terminal import make_bars, open_console, say

_LINES_PER_RUN = 20
_LINES_PER_EVALUATION = 5
_SHARE_OF_WAITS = 0.02


class RunProgress(ProgressBar):
    """Counts training steps of the whole run, because an epoch only lasts until the next validation.

    Shows step, loss, last and best mIoU and the time left. Loss is read from the device only as often as it is logged.
    Says how much of the time the device waits for data where that is more than 2 %, and for the whole run at its end.
    After every validation one line with its scores stays. If standard output is not a terminal, there are no bars: a
    line every ``every_n_steps`` takes their place.

    Args:
        every_n_steps: Steps between two plain lines; a twentieth of the run if None.
        console: Where to write; standard output if None.

    Raises:
        AtrousError: The number of steps is not positive.
    """

    def __init__(self, *, every_n_steps: int | None = None, console: Console | None = None) -> None:
        super().__init__()
        require_range("callbacks.progress.every_n_steps", every_n_steps, at_least=1)
        self._every_n_steps = every_n_steps
        self._console = console or open_console()
        self._enabled = True
        self._bars: Progress | None = None
        self._training: TaskID | None = None
        self._evaluating: TaskID | None = None
        self._steps = math.inf
        self._first_step = 0
        self._last_step = 0
        self._started_at = 0.0
        self._best = -math.inf
        self._loss = ""
        self._score = ""
        self._waits = _Waits()
        self._waiting = ""

    def disable(self) -> None:
        """Show nothing, as in all processes but the first."""
        self._enabled = False
        self._stop()

    def enable(self) -> None:
        """Show progress again."""
        self._enabled = True

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print above the bars."""
        self._say(" ".join(map(str, args)))

    def state_dict(self) -> dict[str, Any]:
        """The best mIoU so far."""
        return {"best": self._best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume from there."""
        self._best = state_dict["best"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start at the step where the run starts or resumes."""
        self._steps = trainer.max_steps if trainer.max_steps > 0 else float(trainer.estimated_stepping_batches)
        self._first_step = self._last_step = trainer.global_step
        self._started_at = time.monotonic()
        self._waits = _Waits()
        self._waits.begin(trainer)
        if self._show_bars():
            assert self._bars is not None
            self._training = self._bars.add_task(
                "training", total=_total(self._steps), completed=self._first_step, note=""
            )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move on by one step."""
        step = trainer.global_step
        if not self._enabled or step == self._last_step:
            return
        self._last_step = step
        interval = getattr(trainer, "log_every_n_steps", 0) or 50
        if self._bars is None:
            interval = self._every_n_steps or (
                max(1, int(self._steps) // _LINES_PER_RUN) if math.isfinite(self._steps) else 500
            )
        if step % interval == 0 or step == self._steps:
            self._waits.end(trainer)
            self._waits.begin(trainer)
            self._waiting = _waiting(self._waits.latest) if self._waits.latest > _SHARE_OF_WAITS else ""
            loss = trainer.callback_metrics.get("train/loss")
            self._loss = "" if loss is None else f"loss {float(loss):.3f}"
            if self._bars is None:
                self._say(_join(self._place(step), _phase(pl_module), self._loss, self._pace(step), self._waiting))
        if self._bars is not None and self._training is not None:
            note = _join(_phase(pl_module), self._loss, self._score, self._waiting)
            self._bars.update(self._training, completed=step, note=note)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop drawing before the report."""
        self._stop()
        self._waits.end(trainer)
        if self._waits.whole is not None:
            self._say(_waiting(self._waits.whole))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count validation images."""
        self._waits.end(trainer)
        if not trainer.sanity_checking:
            self._start_evaluation("validation", trainer.num_val_batches)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Move on by one batch."""
        if not trainer.sanity_checking:
            self._advance("validation", batch_idx, trainer.num_val_batches, quiet=trainer.state.fn == "fit")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the scores on one line that stays."""
        if trainer.sanity_checking:
            return
        self._waits.begin(trainer)
        self._end_evaluation()
        if trainer.state.fn != "fit" or not self._enabled:
            if trainer.state.fn != "fit":
                self._stop()
            return
        metrics = trainer.callback_metrics
        names = {"val/miou": "mIoU", "val/pixel_accuracy": "pixel accuracy", "val/loss": "loss"}
        found = {shown: float(metrics[name]) for name, shown in names.items() if name in metrics}
        best = ""
        if "mIoU" in found:
            if found["mIoU"] > self._best:
                self._best = found["mIoU"]
                best = "(best so far)"
            self._score = f"mIoU {found['mIoU']:.3f} (best {self._best:.3f})"
        if self._bars is not None and self._training is not None:
            self._bars.update(self._training, note=_join(self._loss, self._score))
        scores = "  ".join(f"{shown} {value:.3f}" for shown, value in found.items())
        self._say(_join(self._place(trainer.global_step), f"validation: {scores} {best}".rstrip()))

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count test images."""
        self._start_evaluation("test", trainer.num_test_batches)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Move on by one batch."""
        self._advance("test", batch_idx, trainer.num_test_batches)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the screen."""
        self._end_evaluation()
        self._stop()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count images."""
        self._start_evaluation("prediction", trainer.num_predict_batches)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Move on by one batch."""
        self._advance("prediction", batch_idx, trainer.num_predict_batches)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the screen."""
        self._end_evaluation()
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stop drawing before the error message."""
        self._stop()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the screen."""
        self._stop()

    def _show_bars(self) -> bool:
        if not self._enabled or not self._console.is_terminal:
            return False
        if self._bars is None:
            self._bars = make_bars(self._console)
            self._bars.start()
        return True

    def _stop(self) -> None:
        if self._bars is not None:
            self._bars.stop()
        self._bars = self._training = self._evaluating = None

    def _start_evaluation(self, what: str, batches: Any) -> None:
        if self._show_bars():
            assert self._bars is not None
            self._evaluating = self._bars.add_task(what, total=_total(_count(batches)), note="")

    def _advance(self, what: str, batch_idx: int, batches: Any, *, quiet: bool = False) -> None:
        if self._bars is not None and self._evaluating is not None:
            self._bars.update(self._evaluating, advance=1)
        elif self._enabled and not quiet:
            count = _count(batches)
            interval = math.ceil(count / _LINES_PER_EVALUATION) if math.isfinite(count) else 100
            if (batch_idx + 1) % interval == 0 or batch_idx + 1 == count:
                self._say(f"{what}: batch {batch_idx + 1}" + (f"/{count:.0f}" if math.isfinite(count) else ""))

    def _end_evaluation(self) -> None:
        if self._bars is not None and self._evaluating is not None:
            self._bars.remove_task(self._evaluating)
        self._evaluating = None

    def _say(self, line: str) -> None:
        if self._enabled:
            say(self._console, line)

    def _place(self, step: int) -> str:
        return f"step {step}/{self._steps:.0f}" if math.isfinite(self._steps) else f"step {step}"

    def _pace(self, step: int) -> str:
        seconds = max(time.monotonic() - self._started_at, 1e-9)
        rate = (step - self._first_step) / seconds
        if not math.isfinite(self._steps):
            return f"{rate:.2f} steps/s"
        left = timedelta(seconds=round((self._steps - step) / rate))
        return f"{rate:.2f} steps/s  {left} left"


class _Waits:
    """Time that training waits for its loader; validations do not count.

    Attributes:
        latest: Share of the time between the last two looks, 0 to 1.
    """

    def __init__(self) -> None:
        self.latest = 0.0
        self._seconds = self._waited = 0.0
        self._began: tuple[float, float] | None = None

    @property
    def whole(self) -> float | None:
        """Share of all the time; ``None`` if nobody knows."""
        return self._waited / self._seconds if self._seconds else None

    def begin(self, trainer: Trainer) -> None:
        """Look at the clock."""
        waited = getattr(trainer.train_dataloader, "waited", None)
        self._began = None if waited is None else (time.perf_counter(), waited)

    def end(self, trainer: Trainer) -> None:
        """Look, and end."""
        if self._began is not None:
            loader: Any = trainer.train_dataloader
            seconds, waited = time.perf_counter() - self._began[0], loader.waited - self._began[1]
            self.latest = waited / max(seconds, 1e-9)
            self._seconds, self._waited = self._seconds + seconds, self._waited + waited
            self._began = None


def _waiting(share: float) -> str:
    return f"waits for data {100 * share:.1f} % of the time"


def _phase(module: LightningModule) -> str:
    """What learns at present, where that changes."""
    return str(getattr(module, "phase", ""))


def _join(*parts: str) -> str:
    return "  ".join(part for part in parts if part)


def _count(batches: Any) -> float:
    """Number of batches of all loaders; Lightning gives one number or a list, inf where a loader has no length."""
    return float(sum(batches)) if isinstance(batches, list) else float(batches)


def _total(count: float) -> float | None:
    return count if math.isfinite(count) else None
