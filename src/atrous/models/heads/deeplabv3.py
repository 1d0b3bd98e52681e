"""The head of DeepLabv3: ASPP on the last map (§3.3)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from atrous.models.backbones.backbone import FeatureMaps
from atrous.models.heads.aspp import ASPP, RATES_AT_STRIDE_16, Pooling
from atrous.models.heads.convolution import classifier, conv_block, separable_conv_block
from atrous.models.heads.head import Head


class DeepLabV3Head(Head):
    """ASPP on the last map, classified (v3 §3.3). Scores have the output stride.

    Args:
        maps: Feature maps of the backbone.
        num_classes: Channels of the scores.
        rates: Atrous rates at output stride 16; an empty list leaves the 1×1 branch and image pooling, the form of
            TensorFlow's MobileNetV2 models.
        image_pooling: ``global``, the training crop's size in pixels, or ``None``.
        aspp_channels: Channels of the ASPP.
        separable: Separable 3×3 convolutions in the ASPP (v3+ table 5).
        dropout: Dropout after the ASPP's projection.

    Raises:
        AtrousError: A number is out of range.
    """

    separable_block = staticmethod(separable_conv_block)

    def __init__(
        self,
        maps: FeatureMaps,
        num_classes: int,
        *,
        rates: Sequence[int] = RATES_AT_STRIDE_16,
        image_pooling: Pooling = "global",
        aspp_channels: int = 256,
        separable: bool = False,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        block = self.separable_block if separable else conv_block
        self.aspp = ASPP(maps, aspp_channels, rates=rates, image_pooling=image_pooling, block=block, dropout=dropout)
        self.classifier = classifier(aspp_channels, num_classes)
        self.stride = maps.output_stride

    def set_output_stride(self, output_stride: int) -> None:
        """Scale the ASPP's rates."""
        self.stride = output_stride
        self.aspp.set_output_stride(output_stride)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Compute scores B×C×h×w at the last map's size."""
        scores: Tensor = self.classifier(self.aspp(features[-1]))
        return scores
