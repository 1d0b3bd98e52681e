"""The contract of every inference method with validation, test, prediction and the other methods."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Protocol, Self, TypedDict

import torch
from torch import Tensor

from atrous.geometry import Size
from atrous.models.network import Network

Band = tuple[slice, Tensor]
"""Some rows of an image, and the probabilities B×C×n×W of their pixels."""


class InferenceProtocol(TypedDict, total=False):
    """What a score must state about the inference it was measured with; see ``atrous.metrics.Protocol``."""

    scales: tuple[float, ...]
    fusion: str
    flip: bool
    window: tuple[int, int] | None
    window_stride: tuple[int, int] | None
    window_blend: str | None
    stretched: tuple[int, int] | None
    padded: tuple[int, int] | None
    crf: str | None


class Inference(ABC):
    """From a network and images to class probabilities at the images' own size.

    Whoever needs probabilities for a moment only (for classes, counts, a loss) reads ``bands``, which hold a few
    megabytes at a time; a call gives all of them, B×C×H×W numbers.
    """

    @property
    def protocol(self) -> InferenceProtocol:
        """How it differs from one pass over the whole image; empty if it does not."""
        return {}

    def smooth(self) -> Inference:
        """The same with probabilities that are interpolated wherever they are enlarged, as a refiner needs them."""
        return self

    @abstractmethod
    def bands(self, network: Network, image: Tensor) -> Iterator[Band]:
        """Predict some rows at a time, from the first to the last.

        Args:
            network: In evaluation mode.
            image: B×3×H×W, RGB, 0…255.

        Yields:
            Rows, and their probabilities B×C×n×W, float32.
        """

    def __call__(self, network: Network, image: Tensor) -> Tensor:
        """Predict all rows.

        Args:
            network: In evaluation mode.
            image: B×3×H×W, RGB, 0…255.

        Returns:
            Probabilities B×C×H×W, float32.
        """
        return torch.cat([probabilities for _, probabilities in self.bands(network, image)], dim=2)


class FreeSize(Inference):
    """An inference whose result can be had at another size than the image's: what multi-scale testing averages."""

    @abstractmethod
    def bands(self, network: Network, image: Tensor, size: Size | None = None) -> Iterator[Band]:
        """Predict some rows at a time; see ``Inference``.

        Args:
            network: In evaluation mode.
            image: B×3×H×W, RGB, 0…255.
            size: Height and width of the result, over the same part of the scene; ``None`` for the image's own. It
                decides the number of rows in each band, together with the batch and the classes.
        """


class Wrapper(Inference):
    """An inference that prepares images for another one, calls it several times, or works on what it gives.

    Attributes:
        inner: The other one.
    """

    inner: Inference

    def around(self, inner: Inference) -> Self:
        """The same around another inference."""
        changed = copy.copy(self)
        changed.inner = inner
        return changed


def most_probable(probabilities: Tensor) -> Tensor:
    """The most probable class of every pixel, the first one of several that are alike.

    Args:
        probabilities: B×C×n×W, or logits.

    Returns:
        Class ids B×n×W, int64.
    """
    return probabilities.max(dim=1).indices  # argmax takes ten times as long on the CPU


class Stage(Protocol):
    """Something to do around an inference, whatever that is: several scales, windows, a CRF."""

    def wrap(self, inference: Inference) -> Inference:
        """Do it around an inference, at the place where it belongs: the order of several stages does not matter.

        Raises:
            AtrousError: It cannot be done there.
        """
