"""The DeepLab heads of other projects, where they differ from the papers': for weights that were trained with them.

Built from the same pieces as the papers' heads, with the same tensor names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from atrous.geometry import Grid, size_of
from atrous.models.backbones.backbone import FeatureMaps
from atrous.models.heads.aspp import ASPP, RATES_AT_STRIDE_16
from atrous.models.heads.convolution import classifier, conv_block, conv_stack, separable_conv_block
from atrous.models.heads.deeplabv3 import DeepLabV3Head
from atrous.models.heads.deeplabv3plus import DeepLabV3PlusHead
from atrous.models.heads.head import Head


def linear_separable_conv_block(in_channels: int, out_channels: int, *, kernel: int = 3) -> nn.Sequential:
    """A separable convolution without batch norm and ReLU between its halves, as in segmentation_models.pytorch."""
    depthwise, _, _, *rest = separable_conv_block(in_channels, out_channels, kernel=kernel)
    return nn.Sequential(depthwise, *rest)


class TorchvisionDeepLabV3Head(DeepLabV3Head):
    """torchvision's ``DeepLabHead``: one more 3×3 convolution between ASPP and classifier.

    Args:
        maps: Feature maps of the backbone.
        num_classes: Channels of the scores.
        aspp_channels: Channels of the ASPP.
        options: Those of ``DeepLabV3Head``.
    """

    def __init__(self, maps: FeatureMaps, num_classes: int, *, aspp_channels: int = 256, **options: Any) -> None:
        super().__init__(maps, num_classes, aspp_channels=aspp_channels, **options)
        self.refinement = conv_stack(aspp_channels, aspp_channels, depth=1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Compute scores B×C×h×w at the last map's size."""
        scores: Tensor = self.classifier(self.refinement(self.aspp(features[-1])))
        return scores


class SMPDeepLabV3Head(TorchvisionDeepLabV3Head):
    """``DeepLabV3`` of segmentation_models.pytorch: like torchvision's, with its own separable convolutions.

    Args:
        maps: Feature maps of the backbone.
        num_classes: Channels of the scores.
        rates: Atrous rates at output stride 16.
        aspp_channels: Channels of the ASPP.
        separable: Separable 3×3 convolutions in the ASPP.
        dropout: Dropout after the ASPP's projection.
    """

    separable_block = staticmethod(linear_separable_conv_block)

    def __init__(
        self,
        maps: FeatureMaps,
        num_classes: int,
        *,
        rates: Sequence[int] = RATES_AT_STRIDE_16,
        aspp_channels: int = 256,
        separable: bool = False,
        dropout: float = 0.5,
    ) -> None:
        super().__init__(
            maps, num_classes, rates=rates, aspp_channels=aspp_channels, separable=separable, dropout=dropout
        )


class SMPDeepLabV3PlusHead(Head):
    """``DeepLabV3Plus`` of segmentation_models.pytorch.

    A separable convolution before the enlargement, a single one after the fusion, and corners that are aligned whatever
    the backbone's grid.

    Args:
        maps: Feature maps of the backbone.
        num_classes: Channels of the scores.
        rates: Atrous rates at output stride 16.
        aspp_channels: Channels of ASPP and decoder.
        separable: Separable 3×3 convolutions in the ASPP; the decoder always has them.
        dropout: Dropout after the ASPP's projection.

    Raises:
        AtrousError: The backbone has no feature map of stride 4.
    """

    def __init__(
        self,
        maps: FeatureMaps,
        num_classes: int,
        *,
        rates: Sequence[int] = RATES_AT_STRIDE_16,
        aspp_channels: int = 256,
        separable: bool = True,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        block = linear_separable_conv_block
        self.aspp = ASPP(maps, aspp_channels, rates=rates, block=block if separable else conv_block, dropout=dropout)
        self.aspp_refinement = conv_stack(aspp_channels, aspp_channels, depth=1, block=block)
        self.low_level_index = maps.by_stride(4, key="the low-level stride of this head")
        self.low_level = nn.ModuleList([conv_block(maps.features[self.low_level_index].channels, 48)])
        self.refinement = nn.ModuleList([conv_stack(aspp_channels + 48, aspp_channels, depth=1, block=block)])
        self.classifier = classifier(aspp_channels, num_classes)
        self.stride = 4

    def set_output_stride(self, output_stride: int) -> None:
        """Scale the ASPP's rates."""
        self.aspp.set_output_stride(output_stride)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Compute scores B×C×h×w at the low-level map's size."""
        low_level = self.low_level[0](features[self.low_level_index])
        decoded = Grid.POINTS.resize(self.aspp_refinement(self.aspp(features[-1])), size_of(low_level))
        scores: Tensor = self.classifier(self.refinement[0](torch.cat([decoded, low_level], dim=1)))
        return scores


class MMSegDeepLabV3Head(DeepLabV3Head):
    """mmsegmentation's ``ASPPHead``: the projection of the ASPP is a 3×3 convolution.

    Args:
        maps: Feature maps of the backbone.
        num_classes: Channels of the scores.
        aspp_channels: Channels of the ASPP.
        dropout: Dropout after the ASPP's projection.
        options: Others of ``DeepLabV3Head``.
    """

    def __init__(
        self, maps: FeatureMaps, num_classes: int, *, aspp_channels: int = 512, dropout: float = 0.1, **options: Any
    ) -> None:
        super().__init__(maps, num_classes, aspp_channels=aspp_channels, dropout=dropout, **options)
        _widen_projection(self.aspp)


class MMSegDeepLabV3PlusHead(DeepLabV3PlusHead):
    """mmsegmentation's ``DepthwiseSeparableASPPHead``: the same projection, with or without aligned corners.

    Args:
        maps: Feature maps of the backbone.
        num_classes: Channels of the scores.
        align_corners: Whether maps are enlarged with their outermost samples on the image's corners, or half a cell
            inside, whatever the backbone's grid.
        options: Those of ``DeepLabV3PlusHead``.
    """

    def __init__(self, maps: FeatureMaps, num_classes: int, *, align_corners: bool = False, **options: Any) -> None:
        super().__init__(maps, num_classes, **options)
        self.grid = Grid.POINTS if align_corners else Grid.CELLS
        _widen_projection(self.aspp)


class TFLiteDeepLabV3Head(DeepLabV3Head):
    """The head of a network that was exported for inference: batch norm is folded into the convolutions.

    Args:
        maps: Feature maps of the backbone.
        num_classes: Channels of the scores.
        options: Those of ``DeepLabV3Head``.
    """

    def __init__(self, maps: FeatureMaps, num_classes: int, **options: Any) -> None:
        super().__init__(maps, num_classes, **options)
        for name, layers in list(self.named_modules()):
            if isinstance(layers, nn.Sequential):
                self.set_submodule(name, _with_biases_for_norms(layers))


def _widen_projection(aspp: ASPP) -> None:
    before, *rest = aspp.projection
    assert isinstance(before, nn.Conv2d)
    widened, *_ = conv_block(before.in_channels, before.out_channels, kernel=3)
    aspp.projection = nn.Sequential(widened, *rest)


def _with_biases_for_norms(layers: nn.Sequential) -> nn.Sequential:
    """The same layers without batch norms; the convolution before each has a bias instead, which begins at zero."""
    kept: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, nn.BatchNorm2d):
            assert isinstance(kept[-1], nn.Conv2d)
            kept[-1].bias = nn.Parameter(layer.bias.detach().clone())
        else:
            kept.append(layer)
    return nn.Sequential(*kept)
