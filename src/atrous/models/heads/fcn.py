"""A small head on one map: the auxiliary classifier of training, or a baseline."""

from __future__ import annotations

from torch import Tensor, nn

from atrous.errors import AtrousError, require_range
from atrous.models.backbones.backbone import FeatureMaps
from atrous.models.heads.convolution import classifier, conv_block
from atrous.models.heads.head import Head


class FCNHead(Head):
    """A 3×3 convolution to a quarter of the channels, dropout, classifier (PSPNet §3.3's auxiliary loss; torchvision).

    Scores have the stride of the map that it uses.

    Args:
        maps: Feature maps of the backbone.
        num_classes: Channels of the scores.
        feature: Which map, counted from the coarsest: −1 is the last, −2 the one before.
        channels: Channels of the 3×3 convolution; ``None`` for a quarter of the map's.
        dropout: Dropout before the classifier.

    Raises:
        AtrousError: There is no such map, or a number is out of range.
    """

    def __init__(
        self,
        maps: FeatureMaps,
        num_classes: int,
        *,
        feature: int = -2,
        channels: int | None = None,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        require_range("model.auxiliary.channels", channels, at_least=1)
        require_range("model.auxiliary.dropout", dropout, at_least=0, below=1)
        count = len(maps.features)
        if not -count <= feature < 0:
            raise AtrousError(
                f"feature={feature} of the FCN head is none of the backbone's {count} maps; give a number from "
                f"{-count} to -1"
            )
        self.feature = feature
        self._map = maps.features[feature]
        self.stride = self._map.stride
        width = channels or self._map.channels // 4
        self.block = conv_block(self._map.channels, width, kernel=3)
        self.dropout = nn.Dropout(dropout)
        self.classifier = classifier(width, num_classes)

    def set_output_stride(self, output_stride: int) -> None:
        """Note the stride; the layers do not depend on it."""
        self.stride = self._map.stride_at(output_stride)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Compute scores B×C×h×w at the map's size."""
        scores: Tensor = self.classifier(self.dropout(self.block(features[self.feature])))  # B×1024 → 256 → C
        return scores
