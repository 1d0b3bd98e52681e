"""The checkpoint that an interrupted run continues from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from atrous.atomic_file import keep_as
from atrous.errors import require_range
from atrous.runs import BEFORE_LAST


class ResumePoint(Checkpoint):
    """Keeps ``last.ckpt`` at most ``every`` steps behind, and writes it one step before and right after a validation.

    A validation's result is part of the resumed state. So if a validation follows a step, the checkpoint
    is written after the validation; the one a step earlier covers a validation that does not finish.
    Lightning runs checkpoint callbacks after all others, in their own order: this one comes after the one that keeps
    the best, whose state it saves.

    The checkpoint before it stays beside it, as ``before_last.ckpt``, for the day on which the disk damages one.

    Args:
        path: The checkpoint's file.
        every: Optimizer steps between two checkpoints.

    Raises:
        AtrousError: The interval is not positive.

    Attributes:
        path: The checkpoint's file.
        saved_step: Optimizer steps before the newest checkpoint.
    """

    def __init__(self, path: str, *, every: int = 100) -> None:
        require_range("callbacks.last.every", every, at_least=1)
        self.path = Path(path)
        self.every = every
        self.saved_step = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when ``every`` steps have passed or one is left, but not right before a validation."""
        left = int(trainer.num_training_batches) - (batch_idx + 1)
        new = trainer.global_step - self.saved_step
        if left and (new >= self.every or (new and left == trainer.accumulate_grad_batches)):
            self.save(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save after a validation."""
        if not trainer.sanity_checking and trainer.state.fn == "fit":
            self.save(trainer)

    def state_dict(self) -> dict[str, Any]:
        """The step of the checkpoint that this state is part of."""
        return {"saved_step": self.saved_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue counting from there."""
        self.saved_step = state_dict["saved_step"]

    def save(self, trainer: Trainer) -> None:
        """Write the checkpoint."""
        before, self.saved_step = self.saved_step, trainer.global_step
        try:
            if trainer.is_global_zero and self.path.is_file():
                keep_as(self.path, self.path.with_name(BEFORE_LAST))
            trainer.save_checkpoint(self.path, weights_only=False)  # includes optimizer, loops and callbacks
        except BaseException:
            self.saved_step = before
            raise
