"""What every backbone provides to the heads: a list of feature maps, and their channels and strides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from atrous.errors import AtrousError
from atrous.geometry import Grid
from atrous.models.activation_checkpointing import units_of


@dataclass(frozen=True)
class FeatureSpec:
    """One feature map of a backbone.

    Attributes:
        channels: Number of channels.
        stride: Input pixels per feature pixel at the backbone's current output stride.
        name: Name of the layer that the map is taken from.
        native_stride: Stride before any is traded for a rate; 0 where it is not known.
    """

    channels: int
    stride: int
    name: str
    native_stride: int = 0

    def stride_at(self, output_stride: int) -> int:
        """Stride of the map at another output stride."""
        return min(self.native_stride or self.stride, output_stride)


@dataclass(frozen=True)
class FeatureMaps:
    """What a backbone gives to a head.

    Attributes:
        features: The maps, in the order of ``forward``, fine to coarse.
        grid: Where their features lie in the image.
        output_stride: Stride of the last.
    """

    features: tuple[FeatureSpec, ...]
    grid: Grid
    output_stride: int

    @property
    def last(self) -> FeatureSpec:
        """The coarsest map, on which heads work."""
        return self.features[-1]

    @property
    def low_level(self) -> tuple[FeatureSpec, ...]:
        """The maps before the last."""
        return self.features[:-1]

    def by_stride(self, stride: int, *, key: str = "stride") -> int:
        """Index of the first low-level map of a stride.

        Args:
            stride: At the present output stride.
            key: What asks for it in the configuration.

        Raises:
            AtrousError: There is none.
        """
        strides = [spec.stride for spec in self.low_level]
        if stride not in strides:
            raise AtrousError(
                f"the backbone has no low-level feature map of stride {stride}; {key} can be one of "
                f"{', '.join(map(str, sorted(set(strides))))}"
            )
        return strides.index(stride)

    def by_name(self, name: str | int, *, key: str = "name") -> int:
        """Index of the only low-level map of a name or stride.

        Args:
            name: Name of a layer, or a stride at the present output stride.
            key: What asks for it in the configuration.

        Raises:
            AtrousError: There is none, or several have the stride.
        """
        found = [i for i, spec in enumerate(self.low_level) if name in (spec.name, spec.stride)]
        if len(found) != 1:
            choices = ", ".join(f"{spec.name} (stride {spec.stride})" for spec in self.low_level)
            trouble = "several low-level feature maps" if found else "no low-level feature map"
            raise AtrousError(f"{key}: the backbone has {trouble} {name!r}; name one of {choices}")
        return found[0]


class Backbone(nn.Module, ABC):
    """An image classifier turned into a dense feature extractor.

    ``forward`` maps a normalized float image B×3×H×W to one tensor per entry of ``features``, from fine to coarse. The
    returned tensors are never modified in place by later layers.

    Attributes:
        mean: Mean of the input that the weights expect, per RGB channel, in units of 1 (0 black, 1 white).
        std: Standard deviation likewise.
        grid: Where features lie in the image.
        multi_grid: Factors on the rates of the last stage, once set.
        classifier_layers: Names of the layers that ``take_classifier`` hands over; ``()`` where it never does.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    grid: Grid
    multi_grid: tuple[int, ...] | None = None
    classifier_layers: tuple[str, ...] = ()

    @property
    @abstractmethod
    def features(self) -> tuple[FeatureSpec, ...]:
        """The feature maps that ``forward`` returns, in order."""

    @property
    @abstractmethod
    def output_stride(self) -> int:
        """Stride of the last feature map."""

    @property
    def maps(self) -> FeatureMaps:
        """Everything that a head is built from."""
        return FeatureMaps(self.features, Grid(self.grid), self.output_stride)

    @property
    @abstractmethod
    def native_stride(self) -> int:
        """Stride of the last feature map before any is traded for a rate."""

    @property
    def extension(self) -> int:
        """The coarsest stride inside: images are extended to whole numbers of it."""
        return self.output_stride

    @abstractmethod
    def set_output_stride(self, output_stride: int) -> None:
        """Trade strides for atrous rates so that the last feature map has this stride; weights stay as they are.

        Raises:
            AtrousError: The architecture does not support this output stride.
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

    def take_classifier(self) -> dict[str, Tensor] | None:
        """Hand over the pretrained layers of the classifier, once; ``None`` where there are none."""
        return None

    def at_progress(self, share: float) -> None:
        """Adapt to how much of the training is done, 0 to 1; most backbones need not."""

    def units(self) -> list[nn.Module]:
        """The parts whose activations can be computed again instead of being kept."""
        return units_of(self)

    @abstractmethod
    def forward(self, image: Tensor) -> list[Tensor]:
        """Compute the feature maps of B×3×H×W normalized images."""
