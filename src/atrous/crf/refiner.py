"""The contract of everything that makes class probabilities follow the edges of an image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn


class Refiner(nn.Module, ABC):
    """From class probabilities and the image that they are of to better ones."""

    @property
    @abstractmethod
    def description(self) -> str:
        """What it is, with all numbers that change its result, for the protocol of a score."""

    @abstractmethod
    def refine(self, probabilities: Tensor, image: Tensor) -> Tensor:
        """Refine whole images.

        Args:
            probabilities: B×C×H×W, float32.
            image: B×3×H×W, RGB, 0…255.

        Returns:
            Probabilities B×C×H×W, float32.

        Raises:
            AtrousError: The two do not fit together, or are not what they should be.
        """


def refined_where_likely(
    probabilities: Tensor, image: Tensor, refine: Callable[[Tensor, Tensor], Tensor], *, least: float | None
) -> Tensor:
    """Refine the classes that reach a probability somewhere in their image, each by itself; others stay as they are.

    Args:
        probabilities: B×C×H×W.
        image: B×3×H×W.
        refine: From probabilities 1×c×H×W of some classes and an image to others, not below 0.
        least: The probability; ``None`` for all classes.

    Returns:
        Probabilities B×C×H×W, which sum up to 1 again.
    """
    refined = probabilities.clone()
    for own, before, picture in zip(refined, probabilities, image, strict=True):
        likely = (before.amax(dim=(1, 2)) >= (0 if least is None else least)).nonzero().flatten()
        if len(likely):
            own[likely] = refine(before[None, likely], picture[None])[0]
    return refined / refined.sum(dim=1, keepdim=True).clamp(min=torch.finfo(refined.dtype).tiny)
