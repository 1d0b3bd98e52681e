"""The head of DeepLabv1: VGG-16's fully connected layers as convolutions, with a field of view of your choice."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atrous.errors import AtrousError, require_range
from atrous.models.atrous_convolution import rate_at, set_rate
from atrous.models.backbones.backbone import Backbone, FeatureMaps
from atrous.models.heads.head import Head


class LargeFOVHead(Head):
    """fc6 at an atrous rate, ReLU, dropout, fc7, ReLU, dropout, fc8 (v1 §3.1 and table 2; v2 table 1).

    The variants of table 2 are kernel 7 rate 4, kernel 4 rate 4 or 8 with 4096 channels, and kernel 3 rate 12 with 1024
    channels (LargeFOV). fc6 and fc7 start from those of a pretrained ``VGG16``, subsampled by ``decimate``; fc8 starts
    random with a standard deviation of 0.01.

    Args:
        maps: Feature maps of the backbone; the last is used.
        num_classes: Channels of the scores.
        kernel: Kernel height and width of fc6.
        rate: Atrous rate of fc6 at output stride 8 (the papers' input stride); halved at 16.
        channels: Channels of fc6 and fc7.
        dropout: Probability of dropping a value of fc6 and fc7 in training.

    Raises:
        AtrousError: A number is out of range.
    """

    pretrained_names: tuple[str, ...] = ("fc6", "fc7")

    def __init__(
        self,
        maps: FeatureMaps,
        num_classes: int,
        *,
        kernel: int = 3,
        rate: int = 12,
        channels: int = 1024,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        require_range("model.head.kernel", kernel, at_least=1)
        require_range("model.head.rate", rate, at_least=1)
        require_range("model.head.channels", channels, at_least=1)
        require_range("model.head.dropout", dropout, at_least=0, below=1)
        self.kernel = kernel
        self.rate = rate
        self.fc6 = hidden_layer(maps.last.channels, channels, kernel=kernel)
        self.fc7 = hidden_layer(channels, channels)
        self.fc8 = score_layer(channels, num_classes)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(dropout)
        self.set_output_stride(maps.output_stride)

    def inherit(self, backbone: Backbone) -> None:
        """Take over VGG-16's fully connected layers; with another backbone fc6 and fc7 are new layers.

        Raises:
            AtrousError: fc6 or its width is larger than VGG-16's.
        """
        self.pretrained_names = backbone.classifier_layers
        classifier = backbone.take_classifier()
        if classifier is not None:
            fill(self.fc6, self.fc7, decimate(classifier, kernel=self.kernel, channels=self.fc6.out_channels))

    def set_output_stride(self, output_stride: int) -> None:
        """Scale the rate of fc6."""
        rate = rate_at(self.rate, output_stride, given_at=8)
        set_rate(self.fc6, rate)
        self.stride = output_stride
        self._reaches_further = (self.kernel - 1) * rate % 2 == 1  # to the right and below

    def forward(self, features: list[Tensor]) -> Tensor:
        """Compute scores B×C×h×w at the last map's size."""
        feature = F.pad(features[-1], (0, 1, 0, 1)) if self._reaches_further else features[-1]
        hidden = self.dropout(self.relu(self.fc6(feature)))  # B×512×h×w → B×1024×h×w, each seeing 224 pixels
        hidden = self.dropout(self.relu(self.fc7(hidden)))  # 1×1: what was fully connected in the classifier
        scores: Tensor = self.fc8(hidden)  # B×C×h×w
        return scores


def decimate(classifier: Mapping[str, Tensor], *, kernel: int, channels: int, seed: int = 0) -> dict[str, Tensor]:
    """Subsample VGG-16's fc6 and fc7 to fewer taps and filters.

    Taps are spread evenly from the first to the last of the seven: 0, 3, 6 for a kernel of 3 and 0, 2, 4, 6 for one of
    4. At output stride 8 the 7×7 filter has rate 4, so that the taps 0, 3, 6 lie where a 3×3 filter of rate 12 has its
    own (−12, 0, 12), and 0, 2, 4, 6 where a 4×4 filter of rate 8 has them (−12, −4, 4, 12): each weight stays at its
    place, and the field of view of 224 pixels is kept (v1 table 2). The inner taps 1, 3, 5 would be moved outward.

    Filters are a random subset (v2 §4.1), the same of fc6's outputs and fc7's inputs, in their original order, and
    another one of fc7's outputs; all of them if none is dropped.

    Weights are multiplied by the inverse of the share of their inputs that are kept, taps for fc6 and filters for fc7.
    What is summed is never negative (it comes out of a ReLU), so responses shrink with the number of terms; the factor
    makes the sum of a random part an unbiased estimate of the whole sum, on the scale that the bias is made for.

    Args:
        classifier: ``fc6.weight`` n×c×7×7, ``fc6.bias``, ``fc7.weight`` m×n×1×1, ``fc7.bias``.
        kernel: Taps of fc6 that are kept, in each direction.
        channels: Filters of both layers that are kept.
        seed: Seed of the subset.

    Returns:
        The smaller tensors under the same names.

    Raises:
        AtrousError: The kernel or the number of channels is larger than the classifier's.
    """
    fc6, fc7 = classifier["fc6.weight"], classifier["fc7.weight"]
    taps, filters = fc6.shape[-1], min(fc6.shape[0], fc7.shape[0])
    if kernel > taps or channels > filters:
        raise AtrousError(
            f"fc6 of kernel {kernel} and {channels} channels is larger than that of the pretrained VGG-16 ({taps} and "
            f"{filters}): choose a smaller one, or set backbone.pretrained=false"
        )
    kept = torch.linspace(0, taps - 1, kernel).round().long() if kernel > 1 else torch.tensor([taps // 2])
    generator = torch.Generator().manual_seed(seed)
    middle, outer = (torch.randperm(each.shape[0], generator=generator)[:channels].sort().values for each in (fc6, fc7))
    return {
        "fc6.weight": fc6[middle][:, :, kept][..., kept] * (taps / kernel) ** 2,
        "fc6.bias": classifier["fc6.bias"][middle],
        "fc7.weight": fc7[outer][:, middle] * (fc7.shape[1] / channels),
        "fc7.bias": classifier["fc7.bias"][outer],
    }


def fill(fc6: nn.Conv2d, fc7: nn.Conv2d, tensors: Mapping[str, Tensor]) -> None:
    """Copy the tensors that ``decimate`` returns into two layers."""
    fc6.load_state_dict({kind: tensors[f"fc6.{kind}"] for kind in ("weight", "bias")})
    fc7.load_state_dict({kind: tensors[f"fc7.{kind}"] for kind in ("weight", "bias")})


def hidden_layer(in_channels: int, out_channels: int, *, kernel: int = 1) -> nn.Conv2d:
    """A convolution in front of a ReLU: random weights that keep the variance (He et al.), bias zero."""
    convolution = nn.Conv2d(in_channels, out_channels, kernel)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return convolution


def score_layer(in_channels: int, num_classes: int, *, kernel: int = 1) -> nn.Conv2d:
    """A convolution to class scores: normal weights with standard deviation 0.01, bias zero (released nets' fc8)."""
    convolution = nn.Conv2d(in_channels, num_classes, kernel)
    nn.init.normal_(convolution.weight, std=0.01)
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return convolution
