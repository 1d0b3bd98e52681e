"""Cross-entropy, and what the losses that are made from it have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from atrous.errors import AtrousError, require_range
from atrous.losses.loss import IGNORE_INDEX, Loss, at_least_float32, mean_of_counted


class PixelLoss(Loss):
    """A loss made from the cross-entropies of single pixels, with class weights and label smoothing.

    Args:
        class_weights: One factor per class for the pixels of that class, or ``None`` for 1.
        class_weight_power: Exponent on the factors; between 0 (no weighting) and 1 it softens them.
        label_smoothing: Share of a label that is spread evenly over all classes (Szegedy et al. 2016, arXiv
            1512.00567 §7); the part of each class has that class's weight.
        ignore_index: Label of pixels that take no part.

    Raises:
        AtrousError: A number is out of range, or no class counts.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        *,
        class_weights: Sequence[float] | None = None,
        class_weight_power: float = 1.0,
        label_smoothing: float = 0.0,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__()
        require_range("loss.label_smoothing", label_smoothing, at_least=0, below=1)
        require_range("loss.class_weights", class_weights, at_least=0)
        require_range("loss.class_weight_power", class_weight_power, at_least=0)
        weights = None
        if class_weights is not None:
            weights = torch.tensor(list(class_weights), dtype=torch.float32) ** class_weight_power
            if not weights.any() or not weights.isfinite().all():
                raise AtrousError(
                    f"loss.class_weights={list(class_weights)} to the power {class_weight_power} are "
                    f"{weights.tolist()}; one must be positive and none infinite"
                )
        self.label_smoothing = label_smoothing
        self.ignore_index = ignore_index
        self.register_buffer("class_weights", weights, persistent=False)

    @property
    def plain(self) -> bool:
        """Whether there are neither class weights nor label smoothing."""
        return self.class_weights is None and self.label_smoothing == 0

    def counted(self, target: Tensor) -> Tensor:
        """Which pixels take part."""
        return target != self.ignore_index

    def cross_entropy(
        self, logits: Tensor, target: Tensor, *, reduction: Literal["none", "sum"] = "none", weighted: bool = True
    ) -> Tensor:
        """Cross-entropy of every pixel, B×H×W with zero where it is ignored, or their sum.

        Args:
            logits: B×C×H×W.
            target: B×H×W class ids of any integer type.
            reduction: ``none`` or ``sum``.
            weighted: With class weights and label smoothing; ``False`` gives −log of the true class's probability.

        Raises:
            AtrousError: The number of class weights is not the number of classes.
        """
        logits = at_least_float32(logits)
        weights = self.class_weights
        if weights is not None and len(weights) != logits.shape[1]:
            raise AtrousError(
                f"loss.class_weights has {len(weights)} values for {logits.shape[1]} classes; give one per class"
            )
        return F.cross_entropy(
            logits,
            target.long(),
            weight=weights.to(logits.dtype) if weighted and weights is not None else None,
            ignore_index=self.ignore_index,
            reduction=reduction,
            label_smoothing=self.label_smoothing if weighted else 0.0,
        )


class MeanOverPixels(PixelLoss):
    """A loss that is a sum over pixels, divided by the number of those that are not ignored.

    So it can be computed part by part; ``loss_of_enlarged`` does that.
    """

    @abstractmethod
    def total(self, logits: Tensor, target: Tensor) -> Tensor:
        """Sum over pixels, zero for those that are ignored; arguments are those of ``forward``."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Sum of the losses of pixels over the number of those that are not ignored."""
        return mean_of_counted(self.total(logits, target), self.counted(target))


class CrossEntropy(MeanOverPixels):
    """Cross-entropy, averaged over the pixels that are not ignored (v3+ §4; TensorFlow DeepLab)."""

    def total(self, logits: Tensor, target: Tensor) -> Tensor:
        """Sum of the weighted cross-entropies of all pixels."""
        return self.cross_entropy(logits, target, reduction="sum")
