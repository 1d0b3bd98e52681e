"""Squared error of one-hot labels, which for DUpsampling is the loss on compressed labels (1903.02120 §3.2)."""

from __future__ import annotations

from torch import Tensor

from atrous.losses.loss import IGNORE_INDEX, Loss, at_least_float32, mean_of_counted


class SquaredError(Loss):
    """Squared distance between logits and one-hot labels, averaged over the pixels that are not ignored.

    With an orthonormal decoder W and a temperature of 1, logits are the reconstruction ``W F`` of a window v. As
    ``W P v`` is the projection of v, ``‖W F − v‖² = ‖F − P v‖² + ‖v − W P v‖²``: the gradient is that of the distance
    ``‖F − Ỹ‖²`` to the compressed labels, and ignored pixels take no part.

    Args:
        ignore_index: Label of pixels that take no part.
    """

    def __init__(self, *, ignore_index: int = IGNORE_INDEX) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Mean over pixels of Σ(z − y)² over classes; logits B×C×H×W, labels B×H×W."""
        logits = at_least_float32(logits)
        counted = target != self.ignore_index  # B×H×W
        of_truth = logits.gather(1, target.long().where(counted, 0).unsqueeze(1)).squeeze(1)
        errors = logits.square().sum(dim=1) - 2 * of_truth + 1  # B×H×W
        return mean_of_counted(errors.where(counted, 0).sum(), counted)
