"""Baselines for a score: what a prediction reaches without knowing any shape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

from lightning.pytorch import Callback, LightningModule, Trainer

from atrous.callbacks.scored_module import ScoredModule
from atrous.data.baselines import score_baselines
from atrous.data.data_module import SegmentationDataModule
from atrous.terminal import open_console, say


class Baselines(Callback):
    """Scores the best constant and the best color-only prediction on the validation split when training is done.

    Prints them beside the model's last score and writes them to ``baselines.json`` in the run's folder.

    Args:
        run_dir: The run's folder.
    """

    def __init__(self, run_dir: str) -> None:
        self._folder = Path(run_dir)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fit the baselines to the training split and score them."""
        data, module = trainer.datamodule, cast("ScoredModule", pl_module)  # type: ignore[attr-defined]
        if not trainer.is_global_zero or not isinstance(data, SegmentationDataModule) or module.last_scores is None:
            return
        baselines = score_baselines(data.dataset("train"), data.dataset("val"), folder=data.statistics)
        values = {f"{name} prediction": scores.miou for name, scores in baselines.items()}
        values["this model"] = module.last_scores.miou
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "baselines.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        protocol = module.protocol("val")
        said = ", ".join(f"{name} {100 * miou:.1f} %" for name, miou in values.items())
        say(open_console(), f"mIoU ({protocol.dataset} {protocol.split}): {said}")
