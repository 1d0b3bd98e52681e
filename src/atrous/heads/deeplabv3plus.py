"""Encoder-decoder head of DeepLabv3+ (§3)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from atrous.backbones.backbone import FeatureSpec, Grid
from atrous.errors import AtrousError, require_range
from atrous.heads.aspp import ASPP, RATES_AT_STRIDE_16, Pooling
from atrous.heads.convolution import Norm, classifier, conv_block, separable_conv_block
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
        depthwise_activation: bool = True,
        dropout: float = 0.1,
        projection_kernel: int = 1,
        aspp_refinement: int = 0,
        low_level_stride: int | Sequence[int] = 4,
        low_level_channels: int = 48,
        decoder_channels: int = 256,
        decoder_depth: int = 2,
        decoder_kernel: int = 3,
        decoder_separable: bool | None = None,
        align_corners: bool | None = None,
        norm: Norm = "batch",
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
            depthwise_activation: Batch norm and ReLU between their two halves as well.
            dropout: Dropout after the ASPP's projection.
            projection_kernel: Size of the ASPP's projection, 1 or 3.
            aspp_refinement: Number of 3×3 convolutions on the ASPP's map before it is enlarged; the paper has none,
                segmentation_models.pytorch one.
            low_level_stride: Stride of the low-level map, or of several that are fused one after the other, coarse to
                fine ("conv2+conv3" of table 2 is [8, 4]).
            low_level_channels: Channels that each is projected to (v3+ table 1).
            decoder_channels: Channels of the convolutions after each fusion.
            decoder_depth: Their number (v3+ table 2).
            decoder_kernel: Their size, 3 or 1 (v3+ table 2).
            decoder_separable: Separable 3×3 convolutions in the decoder; ``None`` for the same as in the ASPP.
            align_corners: How maps are enlarged: with their outermost samples on the image's corners or half a cell
                inside; ``None`` as the backbone's grid has them.
            norm: ``batch``, or ``folded`` into the convolutions, which then have a bias.

        Raises:
            AtrousError: The backbone has no feature map of a low-level stride, or a number is impossible.
        """
        super().__init__()
        require_range("model.head.aspp_refinement", aspp_refinement, at_least=0)
        require_range("model.head.low_level_channels", low_level_channels, at_least=1)
        require_range("model.head.decoder_channels", decoder_channels, at_least=1)
        require_range("model.head.decoder_depth", decoder_depth, at_least=0)
        if decoder_kernel < 1 or decoder_kernel % 2 == 0:
            raise AtrousError(f"model.head.decoder_kernel={decoder_kernel} must be odd, such as 3 or 1")
        strides = [spec.stride for spec in features]
        wanted = [low_level_stride] if isinstance(low_level_stride, int) else [int(s) for s in low_level_stride]
        for stride in wanted:
            if stride not in strides[:-1]:
                raise AtrousError(
                    f"the backbone has no low-level feature map of stride {stride}; "
                    f"model.head.low_level_stride can be one of {', '.join(map(str, sorted(set(strides[:-1]))))}"
                )
        if not wanted or sorted(set(wanted), reverse=True) != wanted:
            raise AtrousError(f"model.head.low_level_stride={wanted} must go from coarse to fine, each stride once")
        self.low_level_indices = [strides.index(stride) for stride in wanted]
        self.stride = wanted[-1]
        self.grid: Grid = grid if align_corners is None else "points" if align_corners else "cells"
        self.aspp = ASPP(
            features[-1].channels,
            aspp_channels,
            output_stride=output_stride,
            grid=grid,
            rates=rates,
            image_pooling=image_pooling,
            separable=separable,
            depthwise_activation=depthwise_activation,
            dropout=dropout,
            projection_kernel=projection_kernel,
            norm=norm,
        )
        separated = partial(separable_conv_block, norm=norm, depthwise_activation=depthwise_activation)
        plain = partial(conv_block, norm=norm)
        in_decoder = separable if decoder_separable is None else decoder_separable
        self.aspp_refinement = nn.Sequential(
            *(
                (separated if in_decoder else plain)(aspp_channels, aspp_channels, kernel=3)
                for _ in range(aspp_refinement)
            )
        )
        block = separated if in_decoder and decoder_kernel > 1 else plain
        self.low_level = nn.ModuleList()
        self.refinement = nn.ModuleList()
        width = aspp_channels
        for index in self.low_level_indices:
            widths = [width + low_level_channels] + [decoder_channels] * decoder_depth
            self.low_level.append(plain(features[index].channels, low_level_channels))
            self.refinement.append(
                nn.Sequential(*(block(before, after, kernel=decoder_kernel) for before, after in pairwise(widths)))
            )
            width = widths[-1]
        self.classifier = classifier(width, num_classes)

    def set_output_stride(self, output_stride: int) -> None:
        """Scale the ASPP's rates; the decoder does not depend on the output stride."""
        self.aspp.set_output_stride(output_stride)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Compute scores B×C×h×w at the low-level map's size."""
        decoded = self.aspp_refinement(self.aspp(features[-1]))
        for index, project, refine in zip(self.low_level_indices, self.low_level, self.refinement, strict=True):
            low_level = project(features[index])
            decoded = resize(decoded, (low_level.shape[-2], low_level.shape[-1]), grid=self.grid)
            decoded = refine(torch.cat([decoded, low_level], dim=1))
        scores: Tensor = self.classifier(decoded)
        return scores
