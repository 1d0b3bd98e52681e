"""Weights & Biases: one W&B run per run folder, no matter how often it is interrupted."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from atrous.runs import CHECKPOINTS

_BEST = {
    "val/miou": "max",
    "val/pixel_accuracy": "max",
    "val/mean_accuracy": "max",
    "val/fwiou": "max",
    "val/loss": "min",
}
"""What the summary of a run has of each score."""


class WeightsAndBiases(WandbLogger):
    """Lightning's W&B logger, with the id of the W&B run kept in ``<run_dir>/wandb_id.txt``.

    A run that is started again in the same folder continues the same W&B run. Package ``wandb`` is imported and the W&B
    run is opened when something is first logged; code that starts several runs in one process closes each with
    ``finish_wandb``, because the next one would write into it otherwise.

    Args:
        run_dir: Folder of the run; files of W&B lie in its folder ``wandb``.
        project: W&B project.
        offline: Write to disk only; ``wandb sync`` uploads later.
        name: Display name of the run; W&B invents one if None.
        entity: W&B user or team; their default if None.
        group: Name shared by runs that belong together.
        tags: Labels.
        log_model: Keep the best and the last checkpoint as artifacts with these aliases when training ends; offline
            they wait for ``wandb sync`` like everything else.
    """

    def __init__(
        self,
        run_dir: str | Path,
        *,
        project: str = "atrous",
        offline: bool = False,
        name: str | None = None,
        entity: str | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
        log_model: bool = False,
    ) -> None:
        self._run_dir = Path(run_dir)
        self._keeps_checkpoints = log_model
        # Lightning's own `offline` sets an environment variable that would outlive the run; `mode` does not.
        super().__init__(
            name=name,
            save_dir=str(run_dir),
            id=_run_id(Path(run_dir)),
            project=project,
            entity=entity,
            group=group,
            tags=list(tags),
            mode="offline" if offline else None,
        )

    @property
    def experiment(self) -> Any:
        """The W&B run, opened on first use; its summary has the best scores, not the last ones."""
        opened = self._experiment is not None
        run = super().experiment
        if not opened and hasattr(run, "define_metric"):
            for name, best in _BEST.items():
                run.define_metric(name, step_metric="trainer/global_step", step_sync=True, summary=best)
        return run

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Keep the checkpoints of the run, whether it ended or was stopped."""
        super().finalize(status)
        if not self._keeps_checkpoints or self._experiment is None:
            return
        import wandb

        for name, entry in _scores(self._run_dir).items():
            file = self._run_dir / CHECKPOINTS / f"{name}.ckpt"
            if file.is_file():
                artifact = wandb.Artifact(f"checkpoint-{self.version}", type="model", metadata=entry)
                artifact.add_file(str(file), name=file.name)
                self.experiment.log_artifact(artifact, aliases=[name])


def _scores(run_dir: Path) -> dict[str, dict[str, Any]]:
    """What is known of the best and the last checkpoint."""
    summary = run_dir / "summary.json"
    entries = json.loads(summary.read_text(encoding="utf-8"))["scores"] if summary.is_file() else []
    kept = ("step", "miou", "pixel_accuracy", "mean_accuracy", "protocol_line")
    found = {entry["label"]: {key: entry[key] for key in kept} for entry in entries}
    return {name: found.get(name, {}) for name in ("best", "last")}


def _run_id(run_dir: Path) -> str | None:
    """The id that the folder holds, or a new one; processes other than the first open no W&B run and need none."""
    if getattr(rank_zero_only, "rank", 0) != 0:
        return None
    file = run_dir / "wandb_id.txt"
    if file.is_file() and (known := file.read_text(encoding="utf-8").strip()):
        return known
    fresh = secrets.token_hex(4)
    run_dir.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{fresh}\n", encoding="utf-8")
    return fresh


def finish_wandb(exit_code: int = 0) -> None:
    """Close the open W&B run; does nothing if ``wandb`` was never imported or has no run open.

    Args:
        exit_code: Anything but 0 marks the run as failed.
    """
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.finish(exit_code=exit_code)
