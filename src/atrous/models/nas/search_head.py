"""The head of a network that is being searched (Auto-DeepLab §3.3)."""

from __future__ import annotations

import functools

from torch import Tensor, nn

from atrous.errors import AtrousError
from atrous.geometry import size_of
from atrous.models.backbones.backbone import FeatureMaps
from atrous.models.heads.aspp import ASPP
from atrous.models.heads.convolution import classifier
from atrous.models.heads.head import Head

RATE = 6
"""Atrous rate at stride 16; 96/s at stride s."""


class SearchHead(Head):
    """An ASPP of three branches at every stride, classified; the scores are enlarged to the finest map and summed.

    Args:
        maps: Feature maps of the backbone, of different strides; a map of no images is left out.
        num_classes: Channels of the scores.
        aspp_channels: Channels of every ASPP.
        dropout: Dropout after their projections.

    Raises:
        AtrousError: A number is out of range.
    """

    def __init__(self, maps: FeatureMaps, num_classes: int, *, aspp_channels: int = 256, dropout: float = 0.0) -> None:
        super().__init__()
        self.grid = maps.grid
        self.stride = maps.features[0].stride
        self.aspps = nn.ModuleList(
            ASPP(FeatureMaps((spec,), maps.grid, spec.stride), aspp_channels, rates=[RATE], dropout=dropout)
            for spec in maps.features
        )
        self.classifiers = nn.ModuleList(classifier(aspp_channels, num_classes) for _ in maps.features)

    def set_output_stride(self, output_stride: int) -> None:
        """Refuse: every map has a stride of its own.

        Raises:
            AtrousError: Always.
        """
        raise AtrousError("a network that is being searched has all strides: leave output_stride=null")

    def forward(self, features: list[Tensor]) -> Tensor:
        """Compute scores B×C×h×w at the finest map's size."""
        size = size_of(features[0])
        scores = [
            self.grid.resize(classify(aspp(feature)), size)
            for feature, aspp, classify in zip(features, self.aspps, self.classifiers, strict=True)
            if len(feature)
        ]
        total: Tensor = functools.reduce(lambda one, other: one + other, scores)
        return total
