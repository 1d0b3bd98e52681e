"""Training losses on logits B×C×H×W and labels B×H×W; pixels labelled 255 take no part."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atrous.errors import AtrousError


class CrossEntropy(nn.Module):
    """Cross-entropy, averaged over the pixels that are not ignored (v3+ §4; TensorFlow DeepLab)."""

    class_weights: Tensor | None

    def __init__(
        self,
        *,
        class_weights: Sequence[float] | None = None,
        class_weight_power: float = 1.0,
        ignore_index: int = 255,
    ) -> None:
        """Set the weights.

        Args:
            class_weights: One factor per class for the pixels of that class, or ``None`` for 1.
            class_weight_power: Exponent on the factors; between 0 (no weighting) and 1 it softens them.
            ignore_index: Label of pixels that take no part.
        """
        super().__init__()
        self.ignore_index = ignore_index
        weights = None if class_weights is None else torch.tensor(list(class_weights)) ** class_weight_power
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            logits: B×C×H×W.
            target: B×H×W class ids of any integer type.

        Returns:
            A scalar; zero, with zero gradients, where every pixel is ignored.

        Raises:
            AtrousError: The number of class weights is not the number of classes.
        """
        if self.class_weights is not None and len(self.class_weights) != logits.shape[1]:
            raise AtrousError(
                f"loss.class_weights has {len(self.class_weights)} values for {logits.shape[1]} classes; "
                "give one per class"
            )
        target = target.long()
        total = F.cross_entropy(
            logits.float(), target, weight=self.class_weights, ignore_index=self.ignore_index, reduction="sum"
        )
        return total / (target != self.ignore_index).sum().clamp(min=1)
