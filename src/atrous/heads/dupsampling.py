"""Head of DUpsampling (1903.02120 §3.3): low-level features come down to the coarsest map, not the other way round."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from atrous.backbones.backbone import FeatureSpec, Grid
from atrous.errors import AtrousError, require_range
from atrous.heads.aspp import ASPP, RATES_AT_STRIDE_16, Pooling
from atrous.heads.convolution import conv_block, separable_conv_block
from atrous.heads.head import Head
from atrous.upsamplers.bilinear import resize

INITIAL_DEVIATION = 0.1
"""New layers start Gaussian with variance 0.01 (§4)."""


class DUpsamplingHead(Head):
    """ASPP, fused with any low-level maps at one of two resolutions, mapped to codes of labels.

    ``downsample`` (the paper's proposal) brings each low-level map down to the last map's size: scores have the output
    stride. ``vanilla`` enlarges to each low-level map's size, coarse to fine, as DeepLabv3+: scores have the stride of
    the finest. Each fusion is a 1×1 projection, concatenation and two separable 3×3 convolutions; these are the layers
    whose cost tables 2 and 3 print.
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
        low_level: Sequence[int | str] = (4,),
        fusion: Literal["downsample", "vanilla"] = "downsample",
        low_level_channels: int = 48,
        decoder_channels: int = 256,
        decoder_depth: int = 2,
    ) -> None:
        """Build ASPP and decoder.

        Args:
            features: Feature maps of the backbone, fine to coarse.
            grid: Grid of the backbone.
            output_stride: Stride of the last map.
            num_classes: Channels of the scores: the width of the code.
            rates: Atrous rates at output stride 16.
            image_pooling: ``global``, the training crop's size in pixels, or ``None``.
            aspp_channels: Channels of the ASPP.
            separable: Separable 3×3 convolutions in ASPP and decoder.
            dropout: Dropout after the ASPP's projection.
            low_level: Low-level maps by stride or by name, in the order of fusion; an empty list for none (table 2).
            fusion: ``downsample`` or ``vanilla``.
            low_level_channels: Channels that each is projected to.
            decoder_channels: Channels of the convolutions after each fusion.
            decoder_depth: Their number.

        Raises:
            AtrousError: The backbone has no such map, the fusion is unknown or in an impossible order, or a number is
                out of range.
        """
        super().__init__()
        require_range("model.head.low_level_channels", low_level_channels, at_least=1)
        require_range("model.head.decoder_channels", decoder_channels, at_least=1)
        require_range("model.head.decoder_depth", decoder_depth, at_least=0)
        if fusion not in ("downsample", "vanilla"):
            raise AtrousError(f"model.head.fusion={fusion!r} is unknown; choose downsample or vanilla")
        self.taps = [_find(tap, features) for tap in low_level]
        strides = [features[tap].stride for tap in self.taps]
        if fusion == "vanilla" and sorted(strides, reverse=True) != strides:
            raise AtrousError(
                f"model.head.low_level={list(low_level)} must go from coarse to fine with model.head.fusion=vanilla"
            )
        self.fusion = fusion
        self.grid: Grid = grid
        finest = features[self.taps[-1]] if fusion == "vanilla" and self.taps else features[-1]
        self._native_stride = finest.native_stride or finest.stride
        self._keeps_output_stride = finest is features[-1]
        self.stride = finest.stride
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
        block = separable_conv_block if separable else conv_block
        self.low_level = nn.ModuleList()
        self.refinement = nn.ModuleList()
        width = aspp_channels
        for tap in self.taps:
            widths = [width + low_level_channels] + [decoder_channels] * decoder_depth
            self.low_level.append(conv_block(features[tap].channels, low_level_channels))
            self.refinement.append(
                nn.Sequential(*(block(before, after, kernel=3) for before, after in pairwise(widths)))
            )
            width = widths[-1]
        self.code = nn.Conv2d(width, num_classes, 1, bias=False)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=INITIAL_DEVIATION)

    def set_output_stride(self, output_stride: int) -> None:
        """Scale the ASPP's rates, and follow where the scores have the output stride."""
        self.aspp.set_output_stride(output_stride)
        self.stride = output_stride if self._keeps_output_stride else min(self._native_stride, output_stride)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Compute scores B×D×h×w."""
        decoded = self.aspp(features[-1])
        for tap, project, refine in zip(self.taps, self.low_level, self.refinement, strict=True):
            feature = features[tap]
            if self.fusion == "downsample":
                low_level = project(resize(feature, (decoded.shape[-2], decoded.shape[-1]), grid=self.grid))
            else:
                low_level = project(feature)
                decoded = resize(decoded, (feature.shape[-2], feature.shape[-1]), grid=self.grid)
            decoded = refine(torch.cat([decoded, low_level], dim=1))
        scores: Tensor = self.code(decoded)
        return scores


def _find(tap: int | str, features: Sequence[FeatureSpec]) -> int:
    """Index of the low-level map with a stride or name."""
    found = [i for i, spec in enumerate(features[:-1]) if tap in (spec.stride, spec.name)]
    if len(found) != 1:
        choices = ", ".join(f"{spec.name} (stride {spec.stride})" for spec in features[:-1])
        trouble = "several low-level feature maps" if found else "no low-level feature map"
        raise AtrousError(f"model.head.low_level: the backbone has {trouble} {tap!r}; name one of {choices}")
    return found[0]
