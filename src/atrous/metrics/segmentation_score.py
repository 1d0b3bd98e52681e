"""The confusion matrix as a torchmetrics metric, so that it adds up exactly over batches and processes."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from atrous.metrics.confusion import Scores, confusion_matrix, scores_from_confusion


class SegmentationScore(Metric):
    """Scores over everything seen since the last reset, over all processes.

    Its only state is the int64 confusion matrix, which is summed over processes; uneven shares of the data therefore
    give the scores of one process that saw everything.

    Args:
        num_classes: Number of classes C.
        ignore_index: Target value of the pixels that do not count.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    confusion: Tensor

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.add_state("confusion", torch.zeros(num_classes, num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Count a batch.

        Args:
            prediction: Class ids B×H×W, any integer dtype.
            target: Class ids of the same shape, or the ignored id.

        Raises:
            AtrousError: The shapes differ, or an id lies outside the classes.
        """
        self.confusion += confusion_matrix(prediction, target, self.num_classes, self.ignore_index)

    def compute(self) -> Scores:
        """Scores of everything counted; all nan if nothing was counted."""
        return scores_from_confusion(self.confusion)

    def total_confusion(self) -> Tensor:
        """The confusion matrix summed over all processes: int64 C×C on the CPU.

        Every process has to call it, like ``compute``. The attribute ``confusion`` holds this process's share only.
        """
        with self.sync_context():
            return self.confusion.detach().cpu().clone()
