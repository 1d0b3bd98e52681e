"""The contract of everything that makes class probabilities follow the edges of an image."""

from __future__ import annotations

from abc import ABC, abstractmethod

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
