"""What the Segmentor expects from every head."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from atrous.models.backbones.backbone import Backbone


class Head(nn.Module, ABC):
    """Features of a backbone become class scores.

    Heads are constructed with the backbone's ``FeatureMaps`` and the number of channels of the scores, besides keyword
    arguments of their own. Whatever they need to know about the backbone is in the maps: no head names a backbone.

    Attributes:
        stride: Image pixels per score at the current output stride.
        pretrained_names: Name prefixes of the parameters that ``inherit`` takes from the backbone's
            classifier; they learn as fast as the backbone, all others as fast as new layers.
    """

    stride: int
    pretrained_names: tuple[str, ...] = ()

    def inherit(self, backbone: Backbone) -> None:
        """Take over pretrained layers of the classifier that the backbone was cut from; called once, when joined."""

    @abstractmethod
    def set_output_stride(self, output_stride: int) -> None:
        """Adapt to a change of the backbone's output stride, with the same weights."""

    @abstractmethod
    def forward(self, features: list[Tensor]) -> Tensor:
        """Compute scores B×C×h×w from the backbone's maps, fine to coarse; the maps are left unchanged."""
