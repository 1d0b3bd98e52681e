"""What the training task expects from every loss."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

IGNORE_INDEX = 255


class Loss(nn.Module, ABC):
    """Logits and labels become one number to minimize; pixels that are ignored take no part in it."""

    def at_step(self, step: int) -> None:
        """Follow the training: called before every training step with the number of optimizer steps done."""

    @abstractmethod
    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Compute the loss, in float32 whatever the precision of the network (float64 stays).

        Args:
            logits: B×C×H×W.
            target: B×H×W class ids of any integer type.

        Returns:
            A scalar; zero, with zero gradients, where every pixel is ignored.
        """


def at_least_float32(logits: Tensor) -> Tensor:
    """The same numbers in float32, or in float64 if that is what they are."""
    return logits if logits.dtype == torch.float64 else logits.float()


def mean_of_counted(losses: Tensor, counted: Tensor) -> Tensor:
    """Sum of losses, zero wherever ``counted`` is false, over the number of those that count."""
    return losses.sum() / counted.sum().clamp(min=1)
