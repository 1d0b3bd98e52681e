"""The contract of what computes a dense CRF: they differ in speed, never in meaning."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor

from atrous.crf.kernels import Kernel, Normalization
from atrous.crf.mean_field import Pairwise


class Prepared(ABC):
    """What a CRF takes from images, ready for any scores of them.

    Attributes:
        shape: Batch, height and width.
    """

    shape: tuple[int, int, int]

    @abstractmethod
    def solve(self, scores: Tensor, pairwise: Pairwise) -> Tensor:
        """Run mean-field inference.

        Args:
            scores: B×C×H×W, float32 or float64.
            pairwise: Weights, compatibility and iterations.

        Returns:
            Logits B×C×H×W.
        """


class Backend(ABC):
    """A way to compute dense CRFs."""

    name: str

    @abstractmethod
    def prepare(self, image: Tensor, kernels: Sequence[Kernel], normalization: Normalization) -> Prepared:
        """Do with images what does not depend on scores.

        Args:
            image: B×3×H×W, 0…255.
            kernels: Of the CRF.
            normalization: Of every kernel.
        """
