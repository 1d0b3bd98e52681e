"""What a test costs: time and memory."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from atrous.memory import forget_peak_memory, peak_memory
from atrous.reports import Cost


class CostMeter(Callback):
    """Measures what a test costs; give it as the first callback, so that nothing of the others counts.

    Attributes:
        last: The latest test's.
    """

    def __init__(self) -> None:
        self.last: Cost | None = None
        self._begun = 0.0
        self._seconds = 0.0
        self._images = 0
        self._knows_peak = True

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin."""
        self._seconds, self._images = 0.0, 0
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pl_module.device)
        else:
            self._knows_peak = forget_peak_memory()

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Look at the clock."""
        self._begun = _now(pl_module)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Mapping[str, Any],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count a batch."""
        self._seconds += _now(pl_module) - self._begun
        self._images += len(batch["name"])

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note what it was."""
        if pl_module.device.type == "cuda":
            memory: int | None = torch.cuda.max_memory_allocated(pl_module.device)
        else:
            memory = peak_memory() if self._knows_peak else None
        self.last = Cost(self._seconds / max(1, self._images), memory)


def _now(module: LightningModule) -> float:
    if module.device.type == "cuda":
        torch.cuda.synchronize(module.device)
    return time.perf_counter()
