"""Mean-field inference: every pixel's distribution given those of all others, again and again (arXiv 1210.5644 §3)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from atrous.crf.filter import Filter, filtered

Storage = Literal["float32", "float16"]


@dataclasses.dataclass(frozen=True)
class Pairwise:
    """What pixels say to each other.

    Attributes:
        weights: How much each kernel counts: one number, C, or C×C.
        compatibility: Penalty of each pair of classes, C×C; C numbers for what each gains from itself; ``None`` for 1.
        iterations: Number of steps.
        prune: Labels that reach this probability nowhere are passed over; see ``without_unlikely``.
        storage: How numbers are kept between steps, ``float32`` or ``float16``.
    """

    weights: Sequence[Tensor]
    compatibility: Tensor | None
    iterations: int
    prune: float | None = None
    storage: Storage = "float32"

    def learns(self, scores: Tensor) -> bool:
        """Whether a gradient is asked for, to scores or to what is here."""
        numbers = [scores, *self.weights, self.compatibility]
        return any(each is not None and each.requires_grad for each in numbers)

    def padded(self, more: int) -> Pairwise:
        """For more classes, which gain and give nothing."""
        weights = [_padded(weight, more) for weight in self.weights]
        compatibility = None if self.compatibility is None else _padded(self.compatibility, more)
        return dataclasses.replace(self, weights=weights, compatibility=compatibility)

    def supported(self, scores: Tensor, kernels: Sequence[Filter], probabilities: Tensor) -> Tensor:
        """Scores N×C, and what all pixels together add to those of each."""
        if self.compatibility is not None and self.compatibility.dim() == 2:
            total = torch.zeros_like(scores)
            for kernel, weight in zip(kernels, self.weights, strict=True):
                total = _added(total, filtered(probabilities, kernel), weight)
            return torch.addmm(scores, total, self.compatibility.t(), alpha=-1)
        for kernel, weight in zip(kernels, self.weights, strict=True):
            message = filtered(probabilities, kernel)
            if self.compatibility is None:
                scores = _added(scores, message, weight)
            elif weight.dim() < 2:
                scores = _added(scores, message, weight * self.compatibility)
            else:  # what the kernel mixes, each class counted by its own number
                scores = _added(scores, message, self.compatibility[:, None] * weight)
        return scores


def _padded(numbers: Tensor, more: int) -> Tensor:
    return F.pad(numbers, (0, more) * numbers.dim()) if numbers.dim() else numbers


def _added(scores: Tensor, message: Tensor, weight: Tensor) -> Tensor:
    if weight.dim() < 2:
        return torch.addcmul(scores, message, weight)
    return torch.addmm(scores, message, weight.t())


def mean_field(scores: Tensor, kernels: Sequence[Filter], pairwise: Pairwise) -> Tensor:
    """Scores of all pixels after the last step.

    Args:
        scores: N×C; their softmax is where it begins.
        kernels: Filters over the pixels.
        pairwise: What the kernels' sums mean.

    Returns:
        N×C, with gradients to scores, weights and compatibility.
    """
    now = scores
    for _ in range(pairwise.iterations):
        now = pairwise.supported(scores, kernels, now.softmax(dim=1))
    return now
