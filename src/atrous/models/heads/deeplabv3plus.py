"""Encoder-decoder head of DeepLabv3+ (§3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from atrous.errors import AtrousError, require_range
from atrous.geometry import size_of
from atrous.models.backbones.backbone import FeatureMaps
from atrous.models.heads.aspp import ASPP, RATES_AT_STRIDE_16, Pooling
from atrous.models.heads.convolution import classifier, conv_block, conv_stack, separable_conv_block
from atrous.models.heads.head import Head


class DeepLabV3PlusHead(Head):
    """ASPP, upsampled and fused with a projected low-level map, refined by 3×3 convolutions, classified (v3+ §3.1).

    Scores have the stride of the low-level map.

    Args:
        maps: Feature maps of the backbone.
        num_classes: Channels of the scores.
        rates: Atrous rates of the ASPP at output stride 16.
        image_pooling: ``global``, the training crop's size in pixels, or ``None``.
        aspp_channels: Channels of the ASPP.
        separable: Separable 3×3 convolutions in ASPP and decoder (table 5).
        dropout: Dropout after the ASPP's projection.
        low_level_stride: Stride of the low-level map, or of several that are fused one after the other, coarse to fine
            ("conv2+conv3" of table 2 is [8, 4]).
        low_level_channels: Channels that each is projected to (table 1).
        decoder_channels: Channels of the convolutions after each fusion (table 2).
        decoder_depth: Their number (table 2).
        decoder_kernel: Their size, 3 or 1 (table 2).

    Raises:
        AtrousError: The backbone has no feature map of a low-level stride, or a number is impossible.
    """

    def __init__(
        self,
        maps: FeatureMaps,
        num_classes: int,
        *,
        rates: Sequence[int] = RATES_AT_STRIDE_16,
        image_pooling: Pooling = "global",
        aspp_channels: int = 256,
        separable: bool = True,
        dropout: float = 0.1,
        low_level_stride: int | Sequence[int] = 4,
        low_level_channels: int = 48,
        decoder_channels: int = 256,
        decoder_depth: int = 2,
        decoder_kernel: int = 3,
    ) -> None:
        super().__init__()
        require_range("model.head.low_level_channels", low_level_channels, at_least=1)
        require_range("model.head.decoder_channels", decoder_channels, at_least=1)
        require_range("model.head.decoder_depth", decoder_depth, at_least=0)
        if decoder_kernel < 1 or decoder_kernel % 2 == 0:
            raise AtrousError(f"model.head.decoder_kernel={decoder_kernel} must be odd, such as 3 or 1")
        strides = [low_level_stride] if isinstance(low_level_stride, int) else [int(s) for s in low_level_stride]
        if not strides or sorted(set(strides), reverse=True) != strides:
            raise AtrousError(f"model.head.low_level_stride={strides} must go from coarse to fine, each stride once")
        block = separable_conv_block if separable else conv_block
        in_decoder = block if decoder_kernel > 1 else conv_block

        self.aspp = ASPP(maps, aspp_channels, rates=rates, image_pooling=image_pooling, block=block, dropout=dropout)
        self.low_level_indices = [maps.by_stride(stride, key="model.head.low_level_stride") for stride in strides]
        self.low_level = nn.ModuleList()
        self.refinement = nn.ModuleList()
        width = aspp_channels
        for index in self.low_level_indices:
            fused = width + low_level_channels
            self.low_level.append(conv_block(maps.features[index].channels, low_level_channels))
            self.refinement.append(
                conv_stack(fused, decoder_channels, depth=decoder_depth, block=in_decoder, kernel=decoder_kernel)
            )
            width = decoder_channels if decoder_depth else fused
        self.classifier = classifier(width, num_classes)
        self.grid = maps.grid
        self.stride = strides[-1]

    def set_output_stride(self, output_stride: int) -> None:
        """Scale the ASPP's rates; the decoder does not depend on the output stride."""
        self.aspp.set_output_stride(output_stride)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Compute scores B×C×h×w at the low-level map's size."""
        decoded = self.aspp(features[-1])  # B×256×h/16×w/16
        for index, project, refine in zip(self.low_level_indices, self.low_level, self.refinement, strict=True):
            low_level = project(features[index])  # B×48×h/4×w/4: few channels, so the coarse map outweighs it
            decoded = self.grid.resize(decoded, size_of(low_level))  # B×256×h/4×w/4
            decoded = refine(torch.cat([decoded, low_level], dim=1))  # B×304×h/4×w/4 → B×256×h/4×w/4
        scores: Tensor = self.classifier(decoded)
        return scores
