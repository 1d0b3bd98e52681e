"""The multi-scale branch of DeepLabv1 (MSc, §4.1): fine maps add their own scores to those of a head."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from atrous.errors import AtrousError, require_range
from atrous.geometry import Grid, size_of
from atrous.models.backbones.backbone import Backbone, FeatureMaps
from atrous.models.heads.head import Head


class MultiScaleTapsHead(Head):
    """A head whose scores are summed with those of two-layer perceptrons on the backbone's finer maps.

    Every map but the last is tapped; with ``VGG16`` that is the input image and the first four poolings. A tap is a 3×3
    convolution, ReLU, dropout, 1×1, ReLU, dropout and a 1×1 convolution to the classes. In training the 3×3 convolution
    has the stride that brings the tap to the size of the head's scores. The paper concatenates the taps with the last
    layer before the classifier; the released nets sum scores, which is the same linear map of all of them.

    In the state dict, tensors of the wrapped head keep the names that they have without the taps, so the network
    can start from a checkpoint without taps (``init_from``). To train the new weights alone, as in the paper, use
    ``task.train_only=[head.taps]``.

    Args:
        maps: Feature maps of the backbone.
        num_classes: Channels of the scores.
        head: Called with ``maps`` and ``num_classes``; the head to add to.
        channels: Channels of the two hidden layers of a tap.
        dropout: Probability of dropping a value of them in training.
        dense_evaluation: In evaluation taps run at stride 1 and all scores are interpolated to the finest map's size,
            as in the released test nets; for upsamplers without a ratio. Otherwise evaluation works like training.

    Raises:
        AtrousError: No map but the last is as fine as the scores of the head, or a number is out of range.

    Attributes:
        stride: Image pixels per score in evaluation.
    """

    def __init__(
        self,
        maps: FeatureMaps,
        num_classes: int,
        *,
        head: Callable[..., Head],
        channels: int = 128,
        dropout: float = 0.5,
        dense_evaluation: bool = True,
    ) -> None:
        super().__init__()
        require_range("model.head.channels", channels, at_least=1)
        require_range("model.head.dropout", dropout, at_least=0, below=1)
        self.head = head(maps, num_classes)
        self.pretrained_names = self._names_of_head()
        self.grid = maps.grid
        self.dense_evaluation = dense_evaluation
        self.tapped = tuple(i for i, spec in enumerate(maps.low_level) if spec.stride <= self.head.stride)
        if not self.tapped:
            raise AtrousError(
                f"the multi-scale taps need maps of stride {self.head.stride} or less before the last one, but the "
                f"backbone has strides {', '.join(str(spec.stride) for spec in maps.features)}"
            )
        self.taps = nn.ModuleList(
            _Tap(
                maps.features[i].channels,
                channels,
                num_classes,
                grid=maps.grid,
                dropout=dropout,
                last=i == self.tapped[-1],
            )
            for i in self.tapped
        )
        self.stride = maps.features[self.tapped[0]].stride if dense_evaluation else self.head.stride
        # PyTorch has no annotations for these two
        self.register_state_dict_post_hook(_name_without_taps)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_name_with_taps)  # type: ignore[no-untyped-call]

    def inherit(self, backbone: Backbone) -> None:
        """Let the wrapped head inherit what it needs."""
        self.head.inherit(backbone)
        self.pretrained_names = self._names_of_head()

    def set_output_stride(self, output_stride: int) -> None:
        """Pass it on to the wrapped head; the taps follow the size of its scores."""
        self.head.set_output_stride(output_stride)
        if not self.dense_evaluation:
            self.stride = self.head.stride

    def forward(self, features: list[Tensor]) -> Tensor:
        """Compute scores B×C×h×w at the head's size, or, in dense evaluation, at the finest map's."""
        scores: Tensor = self.head(features)  # B×C×h×w
        dense = self.dense_evaluation and not self.training
        landing = size_of(scores)
        size = size_of(features[self.tapped[0]]) if dense else landing
        total = self.grid.resize(scores, size)  # in dense evaluation the size of the image itself
        for index, tap in zip(self.tapped, self.taps, strict=True):
            total = total + self.grid.resize(tap(features[index], None if dense else landing), size)
        return total

    def _names_of_head(self) -> tuple[str, ...]:
        return tuple(f"head.{name}" for name in self.head.pretrained_names)


class _Tap(nn.Module):
    """Scores of one fine map. Weights start normal with the deviations of the released net."""

    def __init__(
        self, in_channels: int, channels: int, num_classes: int, *, grid: Grid, dropout: float, last: bool
    ) -> None:
        super().__init__()
        self.grid = grid
        self.first = _normal(nn.Conv2d(in_channels, channels, 3), 0.001)
        self.second = _normal(nn.Conv2d(channels, channels, 1), 0.005 if last else 0.001)
        self.score = _normal(nn.Conv2d(channels, num_classes, 1), 0.01)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(dropout)

    def forward(self, feature: Tensor, landing: tuple[int, int] | None) -> Tensor:
        """Compute scores at the map's own size, or with strides that land on another one."""
        size = size_of(feature)
        down, right = (self._window(*pair) for pair in zip(size, landing or size, strict=True))
        stride, padding = (down[0], right[0]), (*right[1:], *down[1:])
        if padding == (1, 1, 1, 1):
            hidden = F.conv2d(feature, self.first.weight, self.first.bias, stride=stride, padding=1)
        else:
            hidden = F.conv2d(F.pad(feature, padding), self.first.weight, self.first.bias, stride=stride)
        hidden = self.dropout(self.relu(hidden))
        hidden = self.dropout(self.relu(self.second(hidden)))
        scores: Tensor = self.score(hidden)
        return scores

    def _window(self, size: int, landing: int) -> tuple[int, int, int]:
        """Stride, and padding before and after (negative to cut), that put windows on the scores' places."""
        stride = self.grid.stride(size, landing) if landing > self.grid.extra else 1
        place = self.grid.place(stride)
        return stride, 1 - place, stride * (landing - 1) + place + 1 - (size - 1)


def _normal(convolution: nn.Conv2d, deviation: float) -> nn.Conv2d:
    nn.init.normal_(convolution.weight, std=deviation)
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return convolution


def _name_without_taps(module: nn.Module, state: dict[str, Any], prefix: str, metadata: object) -> None:
    """``head.fc6`` of the wrapper becomes ``fc6``; the order stays."""
    for name in [name for name in state if name.startswith(prefix)]:
        tensor = state.pop(name)
        state[prefix + name.removeprefix(prefix).removeprefix("head.")] = tensor


def _name_with_taps(module: nn.Module, state: dict[str, Any], prefix: str, *rest: object) -> None:
    """The reverse: whatever is not a tap's belongs to the wrapped head."""
    for name in [name for name in state if name.startswith(prefix)]:
        own = name.removeprefix(prefix)
        if not own.startswith("taps."):
            state[f"{prefix}head.{own}"] = state.pop(name)
