"""What every backbone promises to the heads: a list of feature maps, and their channels and strides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

Grid = Literal["points", "cells"]


@dataclass(frozen=True)
class FeatureSpec:
    """One feature map of a backbone.

    Attributes:
        channels: Number of channels.
        stride: Input pixels per feature pixel at the backbone's present output stride.
        name: Name of the layer that the map is taken from.
    """

    channels: int
    stride: int
    name: str


class Backbone(nn.Module, ABC):
    """An image classifier turned into a dense feature extractor.

    ``forward`` maps a normalised float image B×3×H×W to one tensor per entry of ``features``, from fine to coarse. The
    returned tensors are never modified in place by later layers.

    Attributes:
        mean: Mean of the input that the weights expect, per RGB channel, in units of 1 (0 black, 1 white).
        std: Standard deviation likewise.
        grid: Where feature ``i`` of a map with stride ``s`` lies in the image. ``points``: on pixel ``s·i``, as all
            kernels are odd; an image of ``s·n + 1`` pixels has ``n + 1`` features, the outermost on its corners
            (DeepLab's 513 → 33). ``cells``: in the middle of pixels ``s·i … s·i + s − 1``, as kernels are even (patch
            embeddings); an image of ``s·n`` pixels has ``n`` features.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    grid: Grid

    @property
    @abstractmethod
    def features(self) -> tuple[FeatureSpec, ...]:
        """The feature maps that ``forward`` returns, in order."""

    @property
    @abstractmethod
    def output_stride(self) -> int:
        """Stride of the last feature map."""

    @abstractmethod
    def set_output_stride(self, output_stride: int) -> None:
        """Trade strides for atrous rates so that the last feature map has this stride; weights stay as they are.

        Raises:
            AtrousError: The architecture cannot have this output stride.
        """

    @abstractmethod
    def forward(self, image: Tensor) -> list[Tensor]:
        """Compute the feature maps of B×3×H×W normalised images."""
