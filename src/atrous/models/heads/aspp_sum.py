"""Atrous spatial pyramid pooling of DeepLabv2 (§3.2, §4.1.2): scores of several rates, summed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from atrous.errors import AtrousError, require_range
from atrous.models.atrous_convolution import rate_at, set_rate
from atrous.models.backbones.backbone import Backbone, FeatureMaps
from atrous.models.heads.head import Head
from atrous.models.heads.large_fov import decimate, fill, hidden_layer, score_layer


class ASPPSumHead(Head):
    """Parallel branches that differ in their atrous rate, each with class scores of its own, which are summed.

    On VGG-16 a branch is fc6 (3×3 at the rate), ReLU, dropout, fc7, ReLU, dropout, fc8; fc6 and fc7 start from those of
    a pretrained ``VGG16``, every branch from another random subset of the filters (see ``decimate``). On ResNets a
    branch is one 3×3 convolution from the last map to the classes; with a single rate of 12 that is their LargeFOV.

    Args:
        maps: Feature maps of the backbone; the last is used.
        num_classes: Channels of the scores.
        rates: Atrous rates at output stride 8, one a branch: (2, 4, 8, 12) is ASPP-S, (6, 12, 18, 24) ASPP-L. They are
            halved at 16, and never less than 1.
        hidden: Channels of fc6 and fc7 (1024 on VGG-16), or ``None`` for a 3×3 convolution straight to the classes.
        dropout: Probability of dropping a value of fc6 and fc7 in training.

    Raises:
        AtrousError: There is no rate, or a number is out of range.
    """

    pretrained_names: tuple[str, ...] = ("fc6", "fc7")

    def __init__(
        self,
        maps: FeatureMaps,
        num_classes: int,
        *,
        rates: Sequence[int] = (6, 12, 18, 24),
        hidden: int | None = None,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        require_range("model.head.hidden", hidden, at_least=1)
        require_range("model.head.dropout", dropout, at_least=0, below=1)
        self.rates = tuple(int(rate) for rate in rates)
        if not self.rates or min(self.rates) < 1:
            raise AtrousError(
                f"model.head.rates={list(self.rates)} must name one positive rate a branch, such as [6, 12, 18, 24]"
            )
        self.hidden = hidden
        channels = maps.last.channels
        if hidden is None:
            self.pretrained_names = ()
            self.fc8 = nn.ModuleList(score_layer(channels, num_classes, kernel=3) for _ in self.rates)
        else:
            self.fc6 = nn.ModuleList(hidden_layer(channels, hidden, kernel=3) for _ in self.rates)
            self.fc7 = nn.ModuleList(hidden_layer(hidden, hidden) for _ in self.rates)
            self.fc8 = nn.ModuleList(score_layer(hidden, num_classes) for _ in self.rates)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(dropout)
        self.set_output_stride(maps.output_stride)

    def inherit(self, backbone: Backbone) -> None:
        """Take over VGG-16's fully connected layers; with another backbone fc6 and fc7 are new layers.

        Raises:
            AtrousError: There are more hidden channels than VGG-16 has.
        """
        if self.hidden is None:
            return
        self.pretrained_names = backbone.classifier_layers
        classifier = backbone.take_classifier()
        if classifier is None:
            return
        for branch, (fc6, fc7) in enumerate(zip(self.fc6, self.fc7, strict=True)):
            assert isinstance(fc6, nn.Conv2d)
            assert isinstance(fc7, nn.Conv2d)
            fill(fc6, fc7, decimate(classifier, kernel=3, channels=self.hidden, seed=branch))

    def set_output_stride(self, output_stride: int) -> None:
        """Scale the rates."""
        self.stride = output_stride
        for rate, layer in zip(self.rates, self.fc8 if self.hidden is None else self.fc6, strict=True):
            set_rate(layer, rate_at(rate, output_stride, given_at=8))

    def forward(self, features: list[Tensor]) -> Tensor:
        """Compute scores B×C×h×w at the last map's size."""
        feature = features[-1]
        if self.hidden is None:
            return torch.stack([layer(feature) for layer in self.fc8]).sum(dim=0)
        scores: list[Tensor] = []
        for fc6, fc7, fc8 in zip(self.fc6, self.fc7, self.fc8, strict=True):
            hidden = self.dropout(self.relu(fc6(feature)))
            hidden = self.dropout(self.relu(fc7(hidden)))
            scores.append(fc8(hidden))  # B×C×h×w of this rate
        return torch.stack(scores).sum(dim=0)
