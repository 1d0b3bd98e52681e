"""Encoder-decoder head of DeepLabv3+ (§3)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from atrous.backbones.backbone import FeatureSpec, Grid
from atrous.errors import AtrousError
from atrous.heads.aspp import ASPP, RATES_AT_STRIDE_16, Pooling
from atrous.heads.convolution import classifier, conv_block, separable_conv_block
from atrous.heads.head import Head
from atrous.upsamplers.bilinear import resize


class DeepLabV3PlusHead(Head):
    """ASPP, upsampled and fused with a projected low-level map, refined by 3×3 convolutions, classified (v3+ §3.1).

    Scores have the stride of the low-level map.
    """

    def __init__(
        self,
        *,
        features: Sequence[FeatureSpec],
        grid: Grid,
        output_stride: int,
        num_classes: int,
        rates: Sequence[int] = RATES_AT_STRIDE_16,
        image_pooling: Pooling = "global",
        aspp_channels: int = 256,
        separable: bool = True,
        dropout: float = 0.1,
        low_level_stride: int = 4,
        low_level_channels: int = 48,
        decoder_channels: int = 256,
        decoder_depth: int = 2,
    ) -> None:
        """Build ASPP and decoder.

        Args:
            features: Feature maps of the backbone, fine to coarse.
            grid: Grid of the backbone.
            output_stride: Stride of the last map.
            num_classes: Number of classes.
            rates: Atrous rates at output stride 16.
            image_pooling: ``global``, the training crop's size in pixels, or ``None``.
            aspp_channels: Channels of the ASPP.
            separable: Separable 3×3 convolutions in ASPP and decoder (v3+ table 5).
            dropout: Dropout after the ASPP's projection.
            low_level_stride: Stride of the low-level map.
            low_level_channels: Channels that it is projected to (v3+ table 1).
            decoder_channels: Channels of the 3×3 convolutions.
            decoder_depth: Their number (v3+ table 2).

        Raises:
            AtrousError: The backbone has no feature map of the low-level stride.
        """
        super().__init__()
        strides = [spec.stride for spec in features]
        if low_level_stride not in strides[:-1]:
            raise AtrousError(
                f"the backbone has no low-level feature map of stride {low_level_stride}; "
                f"model.head.low_level_stride can be one of {', '.join(map(str, sorted(set(strides[:-1]))))}"
            )
        self.low_level_index = strides.index(low_level_stride)
        self.grid: Grid = grid
        self.aspp = ASPP(
            features[-1].channels,
            aspp_channels,
            output_stride=output_stride,
            grid=grid,
            rates=rates,
            image_pooling=image_pooling,
            separable=separable,
            dropout=dropout,
        )
        self.low_level = conv_block(features[self.low_level_index].channels, low_level_channels)
        block = separable_conv_block if separable else conv_block
        widths = [aspp_channels + low_level_channels] + [decoder_channels] * decoder_depth
        self.refinement = nn.Sequential(*(block(before, after, kernel=3) for before, after in pairwise(widths)))
        self.classifier = classifier(widths[-1], num_classes)

    def set_output_stride(self, output_stride: int) -> None:
        """Scale the ASPP's rates; the decoder does not depend on the output stride."""
        self.aspp.set_output_stride(output_stride)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Compute scores B×C×h×w at the low-level map's size."""
        low_level = self.low_level(features[self.low_level_index])
        high_level = resize(self.aspp(features[-1]), (low_level.shape[-2], low_level.shape[-1]), grid=self.grid)
        scores: Tensor = self.classifier(self.refinement(torch.cat([high_level, low_level], dim=1)))
        return scores
