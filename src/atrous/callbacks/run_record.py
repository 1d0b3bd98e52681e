"""The record of a run, written once the run has actually started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from atrous.reports.run_record import record_run


class RunRecord(Callback):
    """Writes configuration, overrides, commit and machine into the run's folder, and the configuration to the loggers.

    It does so when training starts, after all checks that could stop it: a checkpoint that does not fit leaves the
    old record unchanged.

    Args:
        run_dir: Folder of the run.
        config: The resolved configuration as plain data.
        overrides: Command-line overrides.
        repository: Checkout whose commit is recorded; ``None`` for the version of the installed package.
    """

    def __init__(
        self, run_dir: str | Path, *, config: Mapping[str, Any], overrides: Sequence[str], repository: Path | None
    ) -> None:
        self._folder = Path(run_dir)
        self._config = config
        self._overrides = overrides
        self._repository = repository

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the record into the run's folder, once, and the configuration to every logger."""
        if trainer.is_global_zero:
            record_run(self._folder, self._config, self._overrides, self._repository)
        for logger in trainer.loggers:
            logger.log_hyperparams(dict(self._config))
