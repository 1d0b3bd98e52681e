"""Dice loss."""

from __future__ import annotations

import torch
from torch import Tensor

from atrous.errors import AtrousError
from atrous.losses.class_mean import Classes, mean_over_classes, require_classes
from atrous.losses.loss import IGNORE_INDEX, Loss, at_least_float32


class Dice(Loss):
    """``1 − (2 Σ p·g + s) / (Σ p + Σ g + s)`` over the pixels of a batch, averaged over classes.

    V-Net (Milletari et al. 2016, arXiv 1606.04797 §3), with sums instead of sums of squares, so that with probabilities
    p of 0 or 1 it is one minus the overlap measure of Dice.

    Args:
        smooth: The s of the formula in pixels; it keeps small regions from dominating.
        classes: ``present`` for classes that occur in the labels of the batch, ``all`` for every class.
        ignore_index: Label of pixels that take no part.

    Raises:
        AtrousError: The smoothing is negative, or ``classes`` is neither.
    """

    def __init__(self, *, smooth: float = 1.0, classes: Classes = "present", ignore_index: int = IGNORE_INDEX) -> None:
        super().__init__()
        require_classes(classes)
        if not smooth >= 0:
            raise AtrousError(f"loss.smooth={smooth} must not be negative")
        self.smooth = smooth
        self.classes: Classes = classes
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Mean over classes of one minus the overlap."""
        target = target.long().unsqueeze(1)
        counted = target != self.ignore_index
        truth = (target == torch.arange(logits.shape[1], device=logits.device).view(1, -1, 1, 1)) & counted
        probabilities = at_least_float32(logits).softmax(dim=1).masked_fill(~counted, 0.0)
        size = truth.sum(dim=(0, 2, 3))
        overlap = 2 * probabilities.masked_fill(~truth, 0.0).sum(dim=(0, 2, 3)) + self.smooth
        total = probabilities.sum(dim=(0, 2, 3)) + size + self.smooth
        losses = 1 - overlap / total.where(total > 0, 1.0)
        return mean_over_classes(
            losses.unsqueeze(0), (size > 0).unsqueeze(0), counted.any().unsqueeze(0), classes=self.classes
        )
