"""Heads of DeepLabv3: ASPP (§3.3) and cascade (§3.2)."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from torch import Tensor, nn

from atrous.backbones.backbone import Backbone, FeatureSpec, Grid
from atrous.errors import AtrousError, require_range
from atrous.heads.aspp import ASPP, RATES_AT_STRIDE_16, Pooling
from atrous.heads.convolution import Norm, classifier, conv_block
from atrous.heads.head import Head


class DeepLabV3Head(Head):
    """ASPP on the last map, classified (v3 §3.3). Scores have the output stride."""

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
        separable: bool = False,
        depthwise_activation: bool = True,
        dropout: float = 0.1,
        projection_kernel: int = 1,
        refinement: int = 0,
        norm: Norm = "batch",
    ) -> None:
        """Build ASPP and classifier.

        Args:
            features: Feature maps of the backbone, fine to coarse.
            grid: Grid of the backbone.
            output_stride: Stride of the last map.
            num_classes: Channels of the scores.
            rates: Atrous rates at output stride 16; an empty list leaves the 1×1 branch and image pooling, the form of
                TensorFlow's MobileNetV2 models.
            image_pooling: ``global``, the training crop's size in pixels, or ``None``.
            aspp_channels: Channels of the ASPP.
            separable: Separable 3×3 convolutions in the ASPP.
            depthwise_activation: Batch norm and ReLU between their two halves as well.
            dropout: Dropout after the ASPP's projection.
            projection_kernel: Size of the ASPP's projection, 1 or 3.
            refinement: Number of 3×3 convolutions between ASPP and classifier; the paper has none, torchvision one.
            norm: ``batch``, or ``folded`` into the convolutions, which then have a bias: the form of exported networks.

        Raises:
            AtrousError: A number is out of range.
        """
        super().__init__()
        require_range("model.head.refinement", refinement, at_least=0)
        self.stride = output_stride
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
        self.refinement = nn.Sequential(
            *(conv_block(aspp_channels, aspp_channels, kernel=3, norm=norm) for _ in range(refinement))
        )
        self.classifier = classifier(aspp_channels, num_classes)

    def set_output_stride(self, output_stride: int) -> None:
        """Scale the ASPP's rates."""
        self.stride = output_stride
        self.aspp.set_output_stride(output_stride)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Compute scores B×C×h×w at the last map's size."""
        scores: Tensor = self.classifier(self.refinement(self.aspp(features[-1])))
        return scores


class CascadeHead(Head):
    """Copies of the backbone's last stage at growing rates, classified (v3 §3.2).

    Block 4 of a ResNet is followed by blocks 5, 6, 7, which start as copies of it, ImageNet weights included, and learn
    as fast as the backbone. Their strides are traded for rates from the start: at output stride 16 blocks 4 to 7 have
    rates 2, 4, 8, 16, times the multi-grid's factors. Block 4 widens 1024 channels to 2048 in its first unit, which has
    no place behind itself; the first unit of a copy is one of the second unit, with its identity shortcut.
    """

    inherited = ("blocks",)

    def __init__(
        self,
        *,
        features: Sequence[FeatureSpec],
        grid: Grid,
        output_stride: int,
        num_classes: int,
        blocks: int = 3,
        dropout: float = 0.0,
    ) -> None:
        """Build the classifier; the blocks come with ``inherit``.

        Args:
            features: Feature maps of the backbone, fine to coarse.
            grid: Grid of the backbone.
            output_stride: Stride of the last map.
            num_classes: Channels of the scores.
            blocks: Copies of the last stage; 3 ends with block 7.
            dropout: Dropout before the classifier.

        Raises:
            AtrousError: A number is out of range.
        """
        super().__init__()
        require_range("model.head.blocks", blocks, at_least=0)
        require_range("model.head.dropout", dropout, at_least=0, below=1)
        self.stride = output_stride
        self.number_of_blocks = blocks
        self.multi_grid: tuple[int, ...] = ()
        self.native_stride = output_stride
        self.blocks = nn.ModuleList()
        self.dropout = nn.Dropout(dropout)
        self.classifier = classifier(features[-1].channels, num_classes)

    def inherit(self, backbone: Backbone) -> None:
        """Copy the units of the backbone's last stage, weights and multi-grid included."""
        if self.number_of_blocks == 0:
            return
        units = list(backbone.last_stage())
        if len(units) < 2:
            raise AtrousError("the backbone's last stage has a single unit, which cannot follow itself: use a ResNet")
        self.native_stride = backbone.native_stride
        self.multi_grid = backbone.multi_grid or (1,) * len(units)
        for _ in range(self.number_of_blocks):
            self.blocks.append(nn.Sequential(*(copy.deepcopy(unit) for unit in [units[1], *units[1:]])))
        self.set_output_stride(self.stride)

    def set_output_stride(self, output_stride: int) -> None:
        """Scale the rates of all blocks: each block's is twice that of the one before."""
        self.stride = output_stride
        for number, block in enumerate(self.blocks, start=1):
            for unit, factor in zip(block.children(), self.multi_grid, strict=True):
                rate = self.native_stride * 2**number // output_stride * factor
                for convolution in unit.modules():
                    if isinstance(convolution, nn.Conv2d) and max(convolution.kernel_size) > 1:
                        convolution.dilation = (rate, rate)
                        convolution.padding = tuple(rate * (kernel // 2) for kernel in convolution.kernel_size)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Compute scores B×C×h×w at the last map's size."""
        feature = features[-1]
        for number, block in enumerate(self.blocks):
            # units add their shortcut in place; the backbone's map must stay as it is
            feature = block(feature.clone() if number == 0 else feature)
        scores: Tensor = self.classifier(self.dropout(feature))
        return scores
