"""A small head on one map: the auxiliary classifier of training, or a baseline."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from atrous.backbones.backbone import FeatureSpec, Grid
from atrous.errors import AtrousError, require_range
from atrous.heads.convolution import classifier, conv_block
from atrous.heads.head import Head


class FCNHead(Head):
    """A 3×3 convolution to a quarter of the channels, dropout, classifier (PSPNet §3.3's auxiliary loss; torchvision).

    Scores have the stride of the map that it looks at.
    """

    def __init__(
        self,
        *,
        features: Sequence[FeatureSpec],
        grid: Grid,
        output_stride: int,
        num_classes: int,
        feature: int = -2,
        channels: int | None = None,
        dropout: float = 0.1,
    ) -> None:
        """Build the head.

        Args:
            features: Feature maps of the backbone, fine to coarse.
            grid: Grid of the backbone.
            output_stride: Stride of the last map.
            num_classes: Channels of the scores.
            feature: Which map, counted from the coarsest: −1 is the last, −2 the one before.
            channels: Channels of the 3×3 convolution; ``None`` for a quarter of the map's.
            dropout: Dropout before the classifier.

        Raises:
            AtrousError: There is no such map, or a number is out of range.
        """
        super().__init__()
        require_range("model.auxiliary.channels", channels, at_least=1)
        require_range("model.auxiliary.dropout", dropout, at_least=0, below=1)
        if not -len(features) <= feature < 0:
            raise AtrousError(
                f"feature={feature} of the FCN head is none of the backbone's {len(features)} maps; "
                f"give a number from {-len(features)} to -1"
            )
        self.feature = feature
        self.stride = features[feature].stride
        self._native_stride = features[feature].native_stride or self.stride
        in_channels = features[feature].channels
        width = channels or in_channels // 4
        self.block = conv_block(in_channels, width, kernel=3)
        self.dropout = nn.Dropout(dropout)
        self.classifier = classifier(width, num_classes)

    def set_output_stride(self, output_stride: int) -> None:
        """Note the stride; the layers do not depend on it."""
        self.stride = min(self._native_stride, output_stride)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Compute scores B×C×h×w at the map's size."""
        scores: Tensor = self.classifier(self.dropout(self.block(features[self.feature])))
        return scores
