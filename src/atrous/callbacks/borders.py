"""Scores near the borders of objects, measured in test beside those of all pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn
from torchmetrics import Metric

from atrous.callbacks.scored_module import ScoredModule
from atrous.metrics import BorderScores, BoundaryF1, BoundaryIoU, TrimapScore


class Borders(Callback):
    """Measures bands around borders at many widths, boundary F1 and Boundary IoU in test.

    Bands are measured around ignored pixels (``void``, as VOC draws the borders of objects) and around the borders
    between classes. It works on the labels as they are, whatever ``trimap_width`` leaves of them.

    Args:
        widths: Widths of the bands in pixels, ascending.
        f1_tolerance: Tolerance of boundary F1 as a share of an image's diagonal.
        iou_ratio: Width of Boundary IoU as a share of an image's diagonal.

    Raises:
        AtrousError: The widths do not ascend, or a share is not between 0 and 1.

    Attributes:
        scores: What was measured last, over all processes.
    """

    def __init__(
        self,
        *,
        widths: Sequence[int] = (1, 2, 3, 5, 7, 10, 15, 20, 30, 40),
        f1_tolerance: float = 0.0075,
        iou_ratio: float = 0.02,
    ) -> None:
        self.scores: BorderScores | None = None
        self._widths = tuple(widths)
        self._f1_tolerance = f1_tolerance
        self._iou_ratio = iou_ratio
        self._metrics = self._build(1, ignore_index=255)  # refuses impossible values at once

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin."""
        space = cast("ScoredModule", pl_module).label_space
        self._metrics = self._build(space.num_classes, space.ignore_index).to(pl_module.device)  # where ranks meet
        self.scores = None

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
        for metric in self._each():
            metric.update(outputs["prediction"], batch["mask"])

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Join what all processes have counted."""
        void, classes, f1, iou = (metric.compute() for metric in self._each())
        self.scores = BorderScores({"void": void, "classes": classes}, f1, iou)

    def _each(self) -> list[Metric]:
        return [cast(Metric, metric) for metric in self._metrics]

    def _build(self, num_classes: int, ignore_index: int) -> nn.ModuleList:
        return nn.ModuleList(
            [
                TrimapScore(num_classes, self._widths, ignore_index=ignore_index, borders="void"),
                TrimapScore(num_classes, self._widths, ignore_index=ignore_index, borders="classes"),
                BoundaryF1(num_classes, tolerance=self._f1_tolerance, ignore_index=ignore_index),
                BoundaryIoU(num_classes, ratio=self._iou_ratio, ignore_index=ignore_index),
            ]
        )
