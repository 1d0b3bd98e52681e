"""The contract of every inference method with validation, test, prediction and the other methods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TypedDict

from torch import Tensor

from atrous.models.segmentor import Segmentor


class InferenceProtocol(TypedDict, total=False):
    """What a score must state about the inference it was measured with; see ``atrous.metrics.Protocol``."""

    scales: tuple[float, ...]
    flip: bool
    window: tuple[int, int] | None
    stretched: tuple[int, int] | None
    padded: tuple[int, int] | None
    crf: str | None


class Inference(ABC):
    """From a network and an image to class probabilities at the image's own size."""

    @property
    def protocol(self) -> InferenceProtocol:
        """How it differs from one pass over the whole image; empty if it does not."""
        return {}

    @abstractmethod
    def __call__(self, segmentor: Segmentor, image: Tensor) -> Tensor:
        """Predict.

        Args:
            segmentor: Network in evaluation mode.
            image: B×3×H×W, RGB, 0…255.

        Returns:
            Probabilities B×C×H×W, float32.
        """
