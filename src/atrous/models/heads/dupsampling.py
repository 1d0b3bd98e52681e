"""Head of DUpsampling (1903.02120 §3.3): low-level features shrink to the coarsest map, not the other way around."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from atrous.errors import AtrousError, require_range
from atrous.geometry import size_of
from atrous.models.backbones.backbone import FeatureMaps
from atrous.models.heads.aspp import ASPP, RATES_AT_STRIDE_16, Pooling
from atrous.models.heads.convolution import conv_block, conv_stack, separable_conv_block
from atrous.models.heads.head import Head

INITIAL_DEVIATION = 0.1
"""New layers start Gaussian with variance 0.01 (§4)."""


class DUpsamplingHead(Head):
    """ASPP, fused with any low-level maps at one of two resolutions, mapped to codes of labels.

    ``downsample`` (the paper's proposal) brings each low-level map down to the last map's size: scores have the output
    stride. ``vanilla`` enlarges to each low-level map's size, coarse to fine, as in v3+: scores have the stride of
    the finest. Each fusion is a 1×1 projection, concatenation and two separable 3×3 convolutions; these are the layers
    whose cost tables 2 and 3 print.

    Args:
        maps: Feature maps of the backbone.
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
        AtrousError: The backbone has no such map, the fusion is unknown or in an impossible order, or a number is out
            of range.
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
        low_level: Sequence[int | str] = (4,),
        fusion: Literal["downsample", "vanilla"] = "downsample",
        low_level_channels: int = 48,
        decoder_channels: int = 256,
        decoder_depth: int = 2,
    ) -> None:
        super().__init__()
        require_range("model.head.low_level_channels", low_level_channels, at_least=1)
        require_range("model.head.decoder_channels", decoder_channels, at_least=1)
        require_range("model.head.decoder_depth", decoder_depth, at_least=0)
        if fusion not in ("downsample", "vanilla"):
            raise AtrousError(f"model.head.fusion={fusion!r} is unknown; choose downsample or vanilla")
        self.taps = [maps.by_name(tap, key="model.head.low_level") for tap in low_level]
        strides = [maps.features[tap].stride for tap in self.taps]
        if fusion == "vanilla" and sorted(strides, reverse=True) != strides:
            raise AtrousError(
                f"model.head.low_level={list(low_level)} must go from coarse to fine with model.head.fusion=vanilla"
            )
        self.fusion = fusion
        self.grid = maps.grid
        self._finest = maps.features[self.taps[-1]] if fusion == "vanilla" and self.taps else None
        self.stride = maps.output_stride if self._finest is None else self._finest.stride
        block = separable_conv_block if separable else conv_block
        self.aspp = ASPP(maps, aspp_channels, rates=rates, image_pooling=image_pooling, block=block, dropout=dropout)
        self.low_level = nn.ModuleList()
        self.refinement = nn.ModuleList()
        width = aspp_channels
        for tap in self.taps:
            fused = width + low_level_channels
            self.low_level.append(conv_block(maps.features[tap].channels, low_level_channels))
            self.refinement.append(conv_stack(fused, decoder_channels, depth=decoder_depth, block=block))
            width = decoder_channels if decoder_depth else fused
        self.code = nn.Conv2d(width, num_classes, 1, bias=False)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=INITIAL_DEVIATION)

    def set_output_stride(self, output_stride: int) -> None:
        """Scale the ASPP's rates, and update the stride if the scores have the output stride."""
        self.aspp.set_output_stride(output_stride)
        self.stride = output_stride if self._finest is None else self._finest.stride_at(output_stride)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Compute scores B×D×h×w."""
        decoded = self.aspp(features[-1])
        for tap, project, refine in zip(self.taps, self.low_level, self.refinement, strict=True):
            feature = features[tap]
            if self.fusion == "downsample":
                low_level = project(self.grid.resize(feature, size_of(decoded)))  # down: the decoder stays cheap
            else:
                low_level = project(feature)
                decoded = self.grid.resize(decoded, size_of(feature))  # up, as DeepLabv3+
            decoded = refine(torch.cat([decoded, low_level], dim=1))  # B×(256 + 48)×h×w → B×256×h×w
        scores: Tensor = self.code(decoded)  # B×D×h×w: not class scores, but codes of label windows
        return scores
