"""A run that tells the search it belongs to how it is doing."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer

from atrous.errors import AtrousError, TrialPruned
from atrous.trials import RunningTrial


class TrialReport(Callback):
    """Reports every validation, and ends a run that is not worth going on with.

    Args:
        trial: The run.
    """

    def __init__(self, trial: RunningTrial) -> None:
        self._trial = trial

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report.

        Raises:
            AtrousError: What counts is never measured.
            TrialPruned: Others did better at this step.
        """
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        monitor = self._trial.search.monitor
        if monitor not in trainer.callback_metrics:
            known = ", ".join(sorted(str(name) for name in trainer.callback_metrics))
            raise AtrousError(f"hydra.sweeper.monitor={monitor} is not measured; choose one of {known}")
        reason = None
        if trainer.is_global_zero:
            reason = self._trial.report(trainer.global_step, float(trainer.callback_metrics[monitor]))
        reason = trainer.strategy.broadcast(reason)
        if reason is not None:
            raise TrialPruned(reason)
