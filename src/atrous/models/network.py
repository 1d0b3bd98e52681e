"""What inference sees of a network, whether PyTorch computes it or something else."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from atrous.crf import DenseCRF
from atrous.geometry import Grid
from atrous.models.logit_map import LogitMap


class Network(nn.Module, ABC):
    """Images go in, and logits come out wherever somebody reads them.

    Attributes:
        num_classes: Number of classes.
        input_scales: Scales at which the network looks at its input.
        crf: The dense CRF that is its last layer, if it has one.
        precision: Numbers that it computes in, where those are fixed; ``None`` where who calls it decides.
        mean: The mean color 1×3×1×1, 0…255: what is zero after normalization.
    """

    num_classes: int
    input_scales: tuple[float, ...] = (1.0,)
    crf: DenseCRF | None
    precision: str | None = None
    mean: Tensor

    @property
    @abstractmethod
    def grid(self) -> Grid:
        """Where features lie in the image."""

    @property
    @abstractmethod
    def output_stride(self) -> int | None:
        """Stride of the backbone's last feature map; ``None`` where nobody knows."""

    @abstractmethod
    def logit_map(self, image: Tensor) -> LogitMap:
        """Run the network, and enlarge its scores only where somebody reads them.

        Args:
            image: B×3×H×W, RGB, uint8 or float, 0…255.
        """
