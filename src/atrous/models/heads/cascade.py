"""The other head of DeepLabv3: a cascade of copies of the backbone's last stage (§3.2)."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from atrous.errors import AtrousError, require_range
from atrous.models.atrous_convolution import set_rate
from atrous.models.backbones.backbone import Backbone, FeatureMaps
from atrous.models.heads.convolution import classifier
from atrous.models.heads.head import Head


class CascadeHead(Head):
    """Copies of the backbone's last stage at growing rates, classified (v3 §3.2).

    Block 4 of a ResNet is followed by blocks 5, 6, 7, which start as copies of it, ImageNet weights included, and learn
    as fast as the backbone. Their strides are traded for rates from the start: at output stride 16 blocks 4 to 7 have
    rates 2, 4, 8, 16, times the multi-grid's factors. Block 4 widens 1024 channels to 2048 in its first unit, which
    cannot follow itself; the first unit of a copy repeats the second unit, with its identity shortcut. The blocks
    are added by ``inherit``.

    Args:
        maps: Feature maps of the backbone.
        num_classes: Channels of the scores.
        blocks: Copies of the last stage; 3 ends with block 7.
        dropout: Dropout before the classifier.

    Raises:
        AtrousError: A number is out of range.
    """

    pretrained_names = ("blocks",)

    def __init__(self, maps: FeatureMaps, num_classes: int, *, blocks: int = 3, dropout: float = 0.0) -> None:
        super().__init__()
        require_range("model.head.blocks", blocks, at_least=0)
        require_range("model.head.dropout", dropout, at_least=0, below=1)
        self.number_of_blocks = blocks
        self.multi_grid: tuple[int, ...] = ()
        self.native_stride = maps.output_stride
        self.blocks = nn.ModuleList()
        self.dropout = nn.Dropout(dropout)
        self.classifier = classifier(maps.last.channels, num_classes)
        self.stride = maps.output_stride

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
                for layer in unit.modules():
                    if isinstance(layer, nn.Conv2d) and max(layer.kernel_size) > 1:
                        set_rate(layer, rate)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Compute scores B×C×h×w at the last map's size."""
        feature = features[-1]
        for number, block in enumerate(self.blocks):
            # units add their shortcut in place; the backbone's map must stay as it is
            feature = block(feature.clone() if number == 0 else feature)
        scores: Tensor = self.classifier(self.dropout(feature))  # B×2048×h×w → B×C×h×w
        return scores
