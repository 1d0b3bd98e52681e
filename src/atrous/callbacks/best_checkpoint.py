"""The checkpoint with the best score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


class BestCheckpoint(ModelCheckpoint):
    """Lightning's best-score checkpoint, which keeps that score when the run's folder is moved."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume from the best score; its file is in the current folder under its old name."""
        folder = Path(str(self.dirpath))
        moved = {
            name: str(folder / Path(state_dict[name]).name)
            for name in ("best_model_path", "kth_best_model_path", "last_model_path")
            if state_dict.get(name)
        }
        scores = {str(folder / Path(path).name): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **moved, "best_k_models": scores, "dirpath": self.dirpath})


def keeps_best(trainer: Trainer) -> bool:
    """Whether weights of the best validation are kept."""
    return any(isinstance(callback, ModelCheckpoint) for callback in trainer.checkpoint_callbacks)
