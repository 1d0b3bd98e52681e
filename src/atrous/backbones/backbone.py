"""What every backbone promises to the heads: a list of feature maps, and their channels and strides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from atrous.errors import AtrousError

Grid = Literal["points", "cells"]


@dataclass(frozen=True)
class FeatureSpec:
    """One feature map of a backbone.

    Attributes:
        channels: Number of channels.
        stride: Input pixels per feature pixel at the backbone's present output stride.
        name: Name of the layer that the map is taken from.
        native_stride: Stride before any is traded for a rate; 0 where it is not known.
    """

    channels: int
    stride: int
    name: str
    native_stride: int = 0


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
        multi_grid: Factors on the rates of the last stage, once set.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    grid: Grid
    multi_grid: tuple[int, ...] | None = None

    @property
    @abstractmethod
    def features(self) -> tuple[FeatureSpec, ...]:
        """The feature maps that ``forward`` returns, in order."""

    @property
    @abstractmethod
    def output_stride(self) -> int:
        """Stride of the last feature map."""

    @property
    @abstractmethod
    def native_stride(self) -> int:
        """Stride of the last feature map before any is traded for a rate."""

    @abstractmethod
    def set_output_stride(self, output_stride: int) -> None:
        """Trade strides for atrous rates so that the last feature map has this stride; weights stay as they are.

        Raises:
            AtrousError: The architecture cannot have this output stride.
        """

    def set_multi_grid(self, rates: Sequence[int]) -> None:
        """Multiply the atrous rates of the units of the last stage, one factor a unit (DeepLabv3 §3.2.1).

        Raises:
            AtrousError: The architecture has no such stage, or another number of units.
        """
        raise AtrousError(f"{type(self).__name__} has no multi-grid; use a ResNet, or set model.multi_grid=null")

    def last_stage(self) -> nn.Sequential:
        """The units of the last stage, for copies of it (DeepLabv3 §3.2).

        Raises:
            AtrousError: The architecture is not made of stages of equal units.
        """
        raise AtrousError(f"{type(self).__name__} has no last stage that could be repeated; use a ResNet")

    @abstractmethod
    def forward(self, image: Tensor) -> list[Tensor]:
        """Compute the feature maps of B×3×H×W normalised images."""
