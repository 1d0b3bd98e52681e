"""What comes after the network in test: several scales, windows, a CRF."""

from __future__ import annotations

from typing import cast

from lightning.pytorch import Callback, LightningModule, Trainer

from atrous.callbacks.scored_module import ScoredModule
from atrous.inference import Stage


class InferenceStage(Callback):
    """Does something around the inference of a module in test, and takes it away again.

    Several of them may be given in any order. Each states itself in the protocol of the scores.

    Args:
        stage: What is done, such as ``atrous.inference.MultiScale``.
        validation: Whether it is done in validation too, where it takes the time of a test each time.
    """

    def __init__(self, stage: Stage, *, validation: bool = False) -> None:
        self.stage = stage
        self._validation = validation

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin."""
        self._begin(pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End."""
        self._end(pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin, if asked; a stage that does not fit the others fails before training, in the sanity check."""
        if self._validation:
            self._begin(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End."""
        self._end(pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """End."""
        self._end(pl_module)

    def _begin(self, module: LightningModule) -> None:
        scored = cast("ScoredModule", module)
        scored.stages.append(self.stage)
        _ = scored.inference  # refuses stages that do not go together

    def _end(self, module: LightningModule) -> None:
        scored = cast("ScoredModule", module)
        scored.stages[:] = [stage for stage in scored.stages if stage is not self.stage]
