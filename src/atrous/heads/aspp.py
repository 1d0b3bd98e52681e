"""Atrous spatial pyramid pooling of DeepLabv3 (§3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atrous.backbones.backbone import Grid
from atrous.errors import AtrousError, require_range
from atrous.heads.convolution import Norm, conv_block, separable_conv_block
from atrous.upsamplers.bilinear import resize

RATES_AT_STRIDE_16 = (6, 12, 18)
Pooling = Literal["global"] | int | Sequence[int] | None


class ImagePooling(nn.Module):
    """Image-level features: average pooling, 1×1 convolution, batch norm, ReLU, spread over the map.

    The window is the whole map, or, with ``window``, as large as the training crop: then a test image larger than the
    crop is pooled by a sliding window, so that the features keep the statistics of training.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        output_stride: int,
        grid: Grid,
        window: Pooling = "global",
        norm: Norm = "batch",
    ) -> None:
        """Build the branch.

        Args:
            in_channels: Channels of the map.
            out_channels: Channels of the result.
            output_stride: Stride of the map.
            grid: Grid of the backbone.
            window: ``global``, or the crop's height and width (or both in one) in pixels of the image.
            norm: ``batch``, or ``folded`` into the convolution.
        """
        super().__init__()
        require_range("model.head.image_pooling", None if window == "global" else window, at_least=1)
        self.output_stride = output_stride
        self.grid: Grid = grid
        if window == "global" or window is None:
            self.window: tuple[int, int] | None = None
        else:
            height, width = (window, window) if isinstance(window, int) else (int(w) for w in window)
            self.window = (height, width)
        self.block = conv_block(in_channels, out_channels, norm=norm)

    def forward(self, feature: Tensor) -> Tensor:
        """Pool B×C×h×w and spread the result to B×D×h×w.

        Raises:
            AtrousError: One image, pooled to one pixel, while batch norm trains: it has no variance.
        """
        size = (feature.shape[-2], feature.shape[-1])
        if self.window is None:
            pooled = feature.mean(dim=(2, 3), keepdim=True)
        else:
            kernel = tuple(
                min(extent, (pixels - 1) // self.output_stride + 1)
                for extent, pixels in zip(size, self.window, strict=True)
            )
            pooled = F.avg_pool2d(feature, kernel, stride=1)
        norm = self.block[1]
        if type(norm) is nn.BatchNorm2d and norm.training and pooled.numel() == pooled.shape[1]:
            raise AtrousError(
                "image pooling got a batch of one image while its batch norm trains: use a batch size of two or more "
                "per device, trainer.sync_batchnorm=true, task.freeze_batch_norm=true or model.head.image_pooling=null"
            )
        return resize(self.block(pooled), size, grid=self.grid)


class ASPP(nn.Module):
    """Parallel 1×1 and atrous 3×3 convolutions with image pooling, concatenated and projected (v3 §3.3).

    The rates are given for output stride 16 and scale with its inverse: (6, 12, 18) become (12, 24, 36) at stride 8.
    Branches are concatenated in the order image pooling, 1×1, rates.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int = 256,
        *,
        output_stride: int,
        grid: Grid,
        rates: Sequence[int] = RATES_AT_STRIDE_16,
        image_pooling: Pooling = "global",
        separable: bool = False,
        depthwise_activation: bool = True,
        dropout: float = 0.1,
        projection_kernel: int = 1,
        norm: Norm = "batch",
    ) -> None:
        """Build the pyramid.

        Args:
            in_channels: Channels of the map.
            channels: Channels of every branch and of the projection.
            output_stride: Stride of the map.
            grid: Grid of the backbone.
            rates: Atrous rates of the 3×3 branches at output stride 16.
            image_pooling: ``global``, the training crop's size in pixels, or ``None`` for no such branch.
            separable: Depthwise separable 3×3 convolutions (v3+ §3.1).
            depthwise_activation: Batch norm and ReLU between their two halves as well (segmentation_models.pytorch has
                none there).
            dropout: Probability of dropping a value of the projection in training.
            projection_kernel: Size of the projection: 1, or 3 as in mmsegmentation.
            norm: ``batch``, or ``folded`` into the convolutions, which then have a bias.

        Raises:
            AtrousError: The projection's size is neither 1 nor 3, the norm is unknown, or a number is out of range.
        """
        super().__init__()
        require_range("model.head.aspp_channels", channels, at_least=1)
        require_range("model.head.rates", rates, at_least=1)
        require_range("model.head.dropout", dropout, at_least=0, below=1)
        if projection_kernel not in (1, 3):
            raise AtrousError(f"model.head.projection_kernel={projection_kernel} must be 1 or 3")
        self.rates = tuple(int(rate) for rate in rates)
        self.pooling = (
            None
            if image_pooling is None
            else ImagePooling(
                in_channels, channels, output_stride=output_stride, grid=grid, window=image_pooling, norm=norm
            )
        )
        self.pointwise = conv_block(in_channels, channels, norm=norm)
        separated = partial(separable_conv_block, depthwise_activation=depthwise_activation)
        block = separated if separable else partial(conv_block)
        self.atrous = nn.ModuleList(block(in_channels, channels, kernel=3, norm=norm) for _ in self.rates)
        branches = 1 + len(self.rates) + (self.pooling is not None)
        projection = conv_block(branches * channels, channels, kernel=projection_kernel, norm=norm)
        self.projection = nn.Sequential(*projection, nn.Dropout(dropout))
        self.set_output_stride(output_stride)

    def set_output_stride(self, output_stride: int) -> None:
        """Scale the rates and the pooling window to an output stride."""
        for rate, branch in zip(self.rates, self.atrous, strict=True):
            scaled = max(1, rate * 16 // output_stride)
            convolution = branch.get_submodule("0")
            assert isinstance(convolution, nn.Conv2d)
            convolution.dilation = (scaled, scaled)
            convolution.padding = (scaled, scaled)
        if self.pooling is not None:
            self.pooling.output_stride = output_stride

    def forward(self, feature: Tensor) -> Tensor:
        """Map B×C×h×w to B×D×h×w."""
        branches = [] if self.pooling is None else [self.pooling(feature)]
        branches.append(self.pointwise(feature))
        branches += [branch(feature) for branch in self.atrous]
        projected: Tensor = self.projection(torch.cat(branches, dim=1))
        return projected
