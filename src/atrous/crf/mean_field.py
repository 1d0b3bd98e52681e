"""Mean-field inference: every pixel's distribution given those of all others, again and again (arXiv 1210.5644 §3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from atrous.crf.filter import Filter, filtered


@dataclass(frozen=True)
class Pairwise:
    """What pixels say to each other.

    Attributes:
        weights: How much each kernel counts: one number, C, or C×C.
        compatibility: Penalty of each pair of classes, C×C; C numbers for what each gains from itself; ``None`` for 1.
        iterations: Number of steps.
    """

    weights: Sequence[Tensor]
    compatibility: Tensor | None
    iterations: int

    def support(self, kernels: Sequence[Filter], probabilities: Tensor) -> Tensor:
        """What all pixels together add to the scores of each, N×C."""
        total: Tensor | None = None
        for kernel, weight in zip(kernels, self.weights, strict=True):
            message = _mixed(filtered(probabilities, kernel), weight)
            total = message if total is None else total + message
        if total is None:
            return torch.zeros_like(probabilities)
        if self.compatibility is None:
            return total
        return _mixed(total, self.compatibility if self.compatibility.dim() == 1 else -self.compatibility)


def _mixed(message: Tensor, weight: Tensor) -> Tensor:
    return message * weight if weight.dim() < 2 else message @ weight.t()


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
        now = scores + pairwise.support(kernels, now.softmax(dim=1))
    return now
