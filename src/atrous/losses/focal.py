"""Focal loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from atrous.errors import AtrousError
from atrous.losses.cross_entropy import MeanOverPixels
from atrous.losses.loss import IGNORE_INDEX


class Focal(MeanOverPixels):
    """``−αₜ (1 − pₜ)^γ log pₜ``, averaged over the pixels that are not ignored (Lin et al. 2017, eq. 5).

    arXiv 1708.02002. Pixels that are already right count less: at γ = 2 a pixel with pₜ = 0.9 a hundred times less.

    Args:
        gamma: Focus γ; 2 is the paper's best (table 1b), 0 is cross-entropy.
        class_weights: The paper's αₜ: one factor per class for the pixels of that class, or ``None`` for 1.
        class_weight_power: Exponent on the factors; between 0 (no weighting) and 1 it softens them.
        ignore_index: Label of pixels that take no part.

    Raises:
        AtrousError: The focus is negative, or a class weight is negative or not finite.
    """

    def __init__(
        self,
        *,
        gamma: float = 2.0,
        class_weights: Sequence[float] | None = None,
        class_weight_power: float = 1.0,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__(class_weights=class_weights, class_weight_power=class_weight_power, ignore_index=ignore_index)
        if not gamma >= 0:
            raise AtrousError(f"loss.gamma={gamma} must not be negative; 0 is cross-entropy, 2 is usual")
        self.gamma = gamma

    def total(self, logits: Tensor, target: Tensor) -> Tensor:
        """Sum of the focal losses of all pixels."""
        surprise = self.cross_entropy(logits, target, weighted=False)
        losses = surprise if self.plain else self.cross_entropy(logits, target)
        # The power of zero has no finite slope where γ < 1; a pixel without surprise has no loss whatever the factor.
        doubt = (-torch.expm1(-surprise)).clamp(min=torch.finfo(surprise.dtype).tiny)
        return (doubt**self.gamma * losses).sum()
