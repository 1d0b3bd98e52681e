"""Weights & Biases: one W&B run per run folder, no matter how often it is interrupted."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from atrous.errors import AtrousError


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
        log_model: Upload checkpoints as artifacts.

    Raises:
        AtrousError: Both ``offline`` and ``log_model`` are set.
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
        if offline and log_model:
            raise AtrousError(
                "logger.wandb.log_model=true needs a connection; leave it out or set logger.wandb.offline=false"
            )
        # Lightning's own `offline` sets an environment variable that would outlive the run; `mode` does not.
        super().__init__(
            name=name,
            save_dir=str(run_dir),
            id=_run_id(Path(run_dir)),
            project=project,
            log_model=log_model,
            entity=entity,
            group=group,
            tags=list(tags),
            mode="offline" if offline else None,
        )


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
