"""Atrous spatial pyramid pooling of DeepLabv3 (§3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atrous.errors import AtrousError, require_range
from atrous.geometry import Grid, size_of
from atrous.models.atrous_convolution import memory_format_of, rate_at, set_rate
from atrous.models.backbones.backbone import FeatureMaps
from atrous.models.heads.convolution import ConvBlock, conv_block

RATES_AT_STRIDE_16 = (6, 12, 18)
Pooling = Literal["global"] | int | Sequence[int] | None


class ImagePooling(nn.Module):
    """Image-level features: average pooling, 1×1 convolution, batch norm, ReLU, spread over the map.

    The window is the whole map, or, with ``window``, as large as the training crop: then a test image larger than the
    crop is pooled by a sliding window, so that the features keep the statistics of training.

    Args:
        in_channels: Channels of the map.
        out_channels: Channels of the result.
        output_stride: Stride of the map.
        grid: Grid of the backbone.
        window: ``global``, or the crop's height and width (or one number for both) in image pixels.

    Raises:
        AtrousError: The window is not positive.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        output_stride: int,
        grid: Grid,
        window: Literal["global"] | int | Sequence[int] = "global",
    ) -> None:
        super().__init__()
        require_range("model.head.image_pooling", None if window == "global" else window, at_least=1)
        self.output_stride = output_stride
        self.grid = grid
        self.window: tuple[int, int] | None = None
        if window != "global":
            height, width = (window, window) if isinstance(window, int) else (int(w) for w in window)
            self.window = (height, width)
        self.block = conv_block(in_channels, out_channels)

    def forward(self, feature: Tensor) -> Tensor:
        """Pool B×C×h×w and spread the result to B×D×h×w.

        Raises:
            AtrousError: One image, pooled to one pixel, while batch norm trains: it has no variance.
        """
        size = size_of(feature)
        if self.window is None:
            pooled = feature.mean(dim=(2, 3), keepdim=True)  # B×C×1×1
        else:
            kernel = tuple(
                min(extent, (pixels - 1) // self.output_stride + 1)
                for extent, pixels in zip(size, self.window, strict=True)
            )
            pooled = F.avg_pool2d(feature, kernel, stride=1)
        norm = self.block[1]
        if isinstance(norm, nn.BatchNorm2d) and norm.training and pooled.numel() == pooled.shape[1]:
            raise AtrousError(
                "image pooling got a batch of one image while its batch norm trains: use a batch size of two or more "
                "per device, trainer.sync_batchnorm=true, task.freeze_batch_norm=true or model.head.image_pooling=null"
            )
        spread = self.grid.resize(self.block(pooled), size)
        # one branch in another order in memory, and all of them would be copied before they are projected
        return spread.contiguous(memory_format=memory_format_of(feature))


class ASPP(nn.Module):
    """Parallel 1×1 and atrous 3×3 convolutions with image pooling, concatenated and projected (v3 §3.3).

    The rates are given for output stride 16 and scale with its inverse: (6, 12, 18) become (12, 24, 36) at stride 8.
    Branches are concatenated in the order image pooling, 1×1, rates.

    Args:
        maps: Feature maps of the backbone; the last is used.
        channels: Channels of every branch and of the projection.
        rates: Atrous rates of the 3×3 branches at output stride 16.
        image_pooling: ``global``, the training crop's size in pixels, or ``None`` for no such branch.
        block: What a 3×3 branch is; the atrous rate goes to its first layer.
        dropout: Probability of dropping a value of the projection in training.

    Raises:
        AtrousError: A number is out of range.
    """

    def __init__(
        self,
        maps: FeatureMaps,
        channels: int = 256,
        *,
        rates: Sequence[int] = RATES_AT_STRIDE_16,
        image_pooling: Pooling = "global",
        block: ConvBlock = conv_block,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        require_range("model.head.aspp_channels", channels, at_least=1)
        require_range("model.head.rates", rates, at_least=1)
        require_range("model.head.dropout", dropout, at_least=0, below=1)
        self.rates = tuple(int(rate) for rate in rates)
        width = maps.last.channels
        self.pooling = None
        if image_pooling is not None:
            self.pooling = ImagePooling(
                width, channels, output_stride=maps.output_stride, grid=maps.grid, window=image_pooling
            )
        self.pointwise = conv_block(width, channels)
        self.atrous = nn.ModuleList(block(width, channels, kernel=3) for _ in self.rates)
        branches = 1 + len(self.rates) + (self.pooling is not None)
        projection = conv_block(branches * channels, channels)
        self.projection = nn.Sequential(*projection, nn.Dropout(dropout))
        self.set_output_stride(maps.output_stride)

    def set_output_stride(self, output_stride: int) -> None:
        """Scale the rates and the pooling window to an output stride."""
        for rate, branch in zip(self.rates, self.atrous, strict=True):
            set_rate(branch.get_submodule("0"), rate_at(rate, output_stride, given_at=16))
        if self.pooling is not None:
            self.pooling.output_stride = output_stride

    def forward(self, feature: Tensor) -> Tensor:
        """Map B×C×h×w to B×D×h×w."""
        branches = [] if self.pooling is None else [self.pooling(feature)]
        branches.append(self.pointwise(feature))
        branches += [branch(feature) for branch in self.atrous]
        projected: Tensor = self.projection(torch.cat(branches, dim=1))  # B×(branches·D)×h×w → B×D×h×w
        return projected
