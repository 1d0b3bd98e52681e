"""VGG-16 as DeepLabv1 and v2 cut and dilate it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import timm
import torch
from torch import Tensor, nn

from atrous.errors import AtrousError, require_range
from atrous.geometry import Grid
from atrous.models.backbones.backbone import Backbone, FeatureSpec
from atrous.models.backbones.output_stride import OUTPUT_STRIDES, SpatialLayer
from atrous.models.backbones.pretrained import name_some, read_pretrained_file, weights_from_hub

Pools = Literal["3x3", "2x2"]
_CONVOLUTIONS = (2, 2, 3, 3, 3)
_CHANNELS = (64, 128, 256, 512, 512)
_POOLS: tuple[Pools, ...] = ("3x3", "2x2")
# names of fc6, fc7 and the layer after them in torchvision's and in timm's files
_CLASSIFIERS = (("classifier.0", "classifier.3", "classifier.6"), ("pre_logits.fc1", "pre_logits.fc2", "head.fc"))


class VGG16(Backbone):
    """The convolutional part of VGG-16 with the poolings of the released DeepLab nets (v1 §3.1, v2 §4.1).

    At output stride 8 it is the papers' net: pool4 and pool5 have stride 1, conv5 has rate 2. At 16 and 32 the strides
    come back, first pool4's, then pool5's. No pooling is ever dilated, as in the released nets; so the same weights
    give the same conv5 at every output stride, but a pool5 of narrower windows at 8 than at 16.

    Features are the image itself, pool1 … pool4 and pool5. They lie on a grid of points: with 3×3 poolings exactly on
    pixels ``stride·i``. A 2×2 window has no middle pixel: those of pool1 to pool3 are the pixel and the one before it
    (the padding of one pixel in the released net), that of pool4 the feature and the one after it, which brings the
    score back to half a pixel after ``8·i``. The released net drops the last window of pool4, which reaches over the
    border, and so needs crops of 8k + 2 pixels; here it keeps what lies inside, and 8k + 1 pixels have k + 1 features.

    Args:
        pretrained: ``True`` for timm's ImageNet weights, ``False`` for random ones, or a file with a state dict of
            torchvision's or timm's VGG-16.
        output_stride: 8, 16 or 32.
        pools: ``3x3`` for the nets with a large field of view and v2, ``2x2`` for the basic net of v1. Both end with a
            3×3 pool5.
        average_pool: Average 3×3 windows after pool5 (v1's large field of view; v2 dropped it).
        channels: Channels of conv1 … conv5.

    Raises:
        AtrousError: An argument is not valid, or the weights are unavailable or do not fit.

    Attributes:
        classifier: ``fc6.weight`` (n×c×7×7), ``fc6.bias``, ``fc7.weight`` (m×n×1×1) and ``fc7.bias`` of pretrained
            weights until they are taken or an image is seen, then ``None``; never part of the state dict.
    """

    grid = Grid.POINTS
    classifier_layers = ("fc6", "fc7")

    def __init__(
        self,
        *,
        pretrained: bool | str = False,
        output_stride: int = 8,
        pools: Pools = "3x3",
        average_pool: bool = False,
        channels: Sequence[int] = _CHANNELS,
    ) -> None:
        super().__init__()
        if pools not in _POOLS:
            raise AtrousError(f"backbone.pools={pools!r} is unknown; choose {' or '.join(_POOLS)}")
        require_range("backbone.channels", channels, at_least=1)
        if len(channels) != len(_CONVOLUTIONS):
            raise AtrousError(f"backbone.channels={list(channels)} must have a value for each of conv1 to conv5")
        config = timm.models.get_pretrained_cfg("vgg16")
        assert config is not None
        self.mean = (config.mean[0], config.mean[1], config.mean[2])
        self.std = (config.std[0], config.std[1], config.std[2])
        self.layers = nn.Sequential()
        self.classifier: dict[str, Tensor] | None = None
        self._channels = tuple(int(width) for width in channels)
        self._spatial_layers: list[SpatialLayer] = []
        self._file_names: dict[str, str] = {}  # of the convolutions in torchvision's and timm's files
        self._build(pools)
        self._ends = [f"pool{stage}" for stage in range(1, 5)]
        if average_pool:
            self.layers.add_module("pool5a", nn.AvgPool2d(3, stride=1, padding=1))
        self._ends.append("pool5a" if average_pool else "pool5")
        self._stages = tuple(_stages(self.layers, self._ends))  # in a tuple, so that they are no layers of their own
        if pretrained is not False:
            self._load(pretrained)
        self.set_output_stride(output_stride)

    def _build(self, pools: Pools) -> None:
        before, stride, index = 3, 1, 0
        for stage, (count, width) in enumerate(zip(_CONVOLUTIONS, self._channels, strict=True), start=1):
            for number in range(1, count + 1):
                name = f"conv{stage}_{number}"
                convolution = nn.Conv2d(before, width, 3, padding=1)
                nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
                assert convolution.bias is not None
                nn.init.zeros_(convolution.bias)
                self.layers.add_module(name, convolution)
                self.layers.add_module(f"relu{stage}_{number}", nn.ReLU(inplace=True))
                self._spatial_layers.append(SpatialLayer(name, convolution, stride, (3, 3), 1, (1, 1), 1))
                self._file_names[name] = f"features.{index}"
                before = width
                index += 2
            index += 1
            kernel = 2 if pools == "2x2" and stage < 5 else 3
            padding = 0 if kernel == 2 and stage == 4 else 1
            pool = nn.MaxPool2d(kernel, stride=2, padding=padding, ceil_mode=padding == 0)
            self.layers.add_module(f"pool{stage}", pool)
            if stage < 5:
                self._spatial_layers.append(
                    SpatialLayer(f"pool{stage}", pool, stride, (kernel, kernel), 2, (padding, padding), 1)
                )
            stride *= 2

    @property
    def features(self) -> tuple[FeatureSpec, ...]:
        """The image and the five poolings."""
        pools = tuple(
            FeatureSpec(channels, min(2**stage, self._output_stride), name, 2**stage)
            for stage, (channels, name) in enumerate(zip(self._channels, self._ends, strict=True), start=1)
        )
        return (FeatureSpec(3, 1, "image", 1), *pools)

    @property
    def output_stride(self) -> int:
        """Stride of pool5."""
        return self._output_stride

    @property
    def native_stride(self) -> int:
        """32, of VGG-16's five poolings."""
        return 32

    def set_output_stride(self, output_stride: int) -> None:
        """Set strides and the rate of conv5; see the class."""
        if output_stride not in OUTPUT_STRIDES:
            raise AtrousError(
                f"output stride {output_stride} is impossible for VGG-16; valid are "
                f"{', '.join(map(str, OUTPUT_STRIDES))}"
            )
        for layer in self._spatial_layers:
            layer.apply(output_stride)
        pool5 = self.layers.get_submodule("pool5")
        assert isinstance(pool5, nn.MaxPool2d)
        pool5.stride = 2 if output_stride == 32 else 1
        self._output_stride = output_stride

    def take_classifier(self) -> dict[str, Tensor] | None:
        """Hand over fc6 and fc7 of the pretrained weights, once; ``None`` if there are none, or no longer any."""
        classifier, self.classifier = self.classifier, None
        return classifier

    def forward(self, image: Tensor) -> list[Tensor]:
        """Compute the maps of B×3×H×W normalized images."""
        if self.classifier is not None:
            self.classifier = None  # half a gigabyte that no head wanted
        feature, maps = image, [image]
        for stage in self._stages:
            feature = stage(feature)
            maps.append(feature)
        return maps

    def units(self) -> list[nn.Module]:
        """The stages between the poolings."""
        return list(self._stages)

    def _load(self, source: bool | str) -> None:
        state = read_pretrained_file(source) if isinstance(source, str) else weights_from_hub("vgg16")
        fc6, fc7, fc8 = _CLASSIFIERS[any(name.startswith("pre_logits.") for name in state)]
        tensors = {
            f"{name}.{kind}": f"{file_name}.{kind}"
            for name, file_name in (*self._file_names.items(), ("fc6", fc6), ("fc7", fc7))
            for kind in ("weight", "bias")
        }
        known = {*tensors.values(), f"{fc8}.weight", f"{fc8}.bias"}
        missing = sorted(set(tensors.values()) - set(state))
        unexpected = sorted(set(state) - known)
        found = {name: state[file_name] for name, file_name in tensors.items() if file_name in state}
        expected = dict(self.layers.state_dict())
        misshapen = [tensors[name] for name in expected if name in found and found[name].shape != expected[name].shape]
        if not missing:
            found["fc6.weight"], fits = _as_convolution(found["fc6.weight"], self._channels[-1], 7)
            found["fc7.weight"], also = _as_convolution(found["fc7.weight"], found["fc6.bias"].numel(), 1)
            misshapen += [name for name, fit in ((f"{fc6}.weight", fits), (f"{fc7}.weight", also)) if not fit]
        if missing or unexpected or misshapen:
            raise AtrousError(
                f"the weights in {source if isinstance(source, str) else 'the package'} are not those of torchvision's "
                f"or timm's VGG-16: {name_some('missing', missing)}, {name_some('unexpected', unexpected)}, "
                f"{name_some('of another shape', misshapen)}"
            )
        self.layers.load_state_dict({name: found[name] for name in expected})
        self.classifier = {name: tensor for name, tensor in found.items() if name not in expected}


def _stages(layers: nn.Sequential, ends: Sequence[str]) -> Iterator[nn.Sequential]:
    """The same layers in sequences, one up to each end."""
    stage = nn.Sequential()
    for name, layer in layers.named_children():
        stage.add_module(name, layer)
        if name in ends:
            yield stage
            stage = nn.Sequential()


def _as_convolution(weight: Tensor, channels: int, kernel: int) -> tuple[Tensor, bool]:
    """A fully connected layer's weights as a convolution's (a view), and whether they are that large."""
    shape = torch.Size((weight.shape[0], channels, kernel, kernel))
    if weight.ndim == 2 and weight.shape[1] == channels * kernel**2:
        weight = weight.view(shape)
    return weight, weight.shape == shape
