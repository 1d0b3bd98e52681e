"""The checkpoint that an interrupted run continues from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint


class ResumePoint(Checkpoint):
    """Keeps ``last.ckpt`` at most ``every`` steps behind, and always after a validation.

    A validation's result belongs to the state that is resumed. So at a step that a validation follows, the checkpoint
    is written behind the validation, not before it. Lightning runs checkpoint callbacks after all others, in their own
    order: this one comes behind the one that keeps the best, whose memory it saves.
    """

    def __init__(self, path: str, *, every: int = 100) -> None:
        """Set the interval.

        Args:
            path: The checkpoint's file.
            every: Optimiser steps between two checkpoints.
        """
        self.path = Path(path)
        self.every = every
        self._saved_step = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when ``every`` steps have passed, unless the chunk ends here."""
        chunk_ends = batch_idx + 1 == trainer.num_training_batches
        if trainer.global_step - self._saved_step >= self.every and not chunk_ends:
            self._save(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save behind a validation."""
        if not trainer.sanity_checking and trainer.state.fn == "fit":
            self._save(trainer)

    def state_dict(self) -> dict[str, Any]:
        """The step of the checkpoint that this state is part of."""
        return {"saved_step": self._saved_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting from there."""
        self._saved_step = state_dict["saved_step"]

    def _save(self, trainer: Trainer) -> None:
        self._saved_step = trainer.global_step
        trainer.save_checkpoint(self.path, weights_only=False)
