"""Networks of other projects beside the same ones of ours, with the same weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from atrous.checkpoints.foreign import Translation, translate
from atrous.composition.parts import build_segmentor
from atrous.errors import AtrousError
from atrous.geometry import size_of
from atrous.models import Segmentor

CLASSES = 21
_SMP = {"deeplabv3": "DeepLabV3", "deeplabv3plus": "DeepLabV3Plus"}
_TORCHVISION = {
    "resnet50": "deeplabv3_resnet50",
    "resnet101": "deeplabv3_resnet101",
    "mobilenetv3_large_100": "deeplabv3_mobilenet_v3_large",
}


@dataclass(frozen=True)
class Pair:
    """The same network twice.

    Attributes:
        theirs: The peer's, from uint8 images B×3×H×W to logits B×C×H×W, with preprocessing as in ours.
        ours: Ours, with its weights.
        whole_strides: Whether the peer demands images of a multiple of the output stride.
    """

    theirs: nn.Module
    ours: Segmentor
    whole_strides: bool = False


class Complete(nn.Module):
    """A network of another project with what a training step needs around it: normalization and enlargement.

    Args:
        network: Called with normalized images.
        like: Our network, for mean, standard deviation and enlargement; smp and torchvision enlarge by themselves.
        logits: Takes the logits from what the network returns.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, like: Segmentor, logits: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.network = network
        self.logits = logits
        self.enlarge = like.upsampler
        self.register_buffer("mean", like.mean.clone())
        self.register_buffer("std", like.std.clone())

    def forward(self, image: Tensor) -> Tensor:
        """Compute logits B×C×H×W of uint8 images B×3×H×W."""
        logits = self.logits(self.network((image - self.mean) / self.std))
        enlarged: Tensor = self.enlarge(logits, size_of(image))
        return enlarged


def build_pair(peer: str, model: str, backbone: str, output_stride: int) -> Pair:
    """Build a peer's network with random weights, and ours with the same.

    Args:
        peer: One of ``PEERS``.
        model: ``deeplabv3`` or ``deeplabv3plus``.
        backbone: timm's name of the backbone.
        output_stride: Output stride.

    Raises:
        AtrousError: The peer is unknown, is not installed, or has no such network.
    """
    if peer not in PEERS:
        raise AtrousError(f"there is no peer {peer!r}; choose one of {', '.join(PEERS)}")
    torch.manual_seed(0)
    try:
        return PEERS[peer](model, backbone, output_stride)
    except ImportError as error:
        raise AtrousError(f"the peer {peer} is not installed ({error}): install it, or leave its rows out") from error


def _smp(model: str, backbone: str, output_stride: int) -> Pair:
    import segmentation_models_pytorch as smp

    if model not in _SMP:
        raise _no_such_network("smp", model, backbone)
    known = backbone in smp.encoders.get_encoder_names()
    network = getattr(smp, _SMP[model])(
        backbone if known else f"tu-{backbone}",
        encoder_weights=None,
        encoder_output_stride=output_stride,
        classes=CLASSES,
    )
    of_timm = {} if known else {"backbone": backbone}
    pair = _pair(network, translate("smp", network.state_dict(), output_stride=output_stride, **of_timm))
    return replace(pair, whole_strides=True)


def _torchvision(model: str, backbone: str, output_stride: int) -> Pair:
    from torchvision.models import segmentation

    stride = 16 if backbone.startswith("mobilenet") else 8
    if model != "deeplabv3" or backbone not in _TORCHVISION or output_stride != stride:
        raise _no_such_network("torchvision", model, backbone)
    network = getattr(segmentation, _TORCHVISION[backbone])(weights=None, weights_backbone=None, aux_loss=False)
    return _pair(network, translate("torchvision", network.state_dict()), lambda outputs: outputs["out"])


def _transformers(model: str, backbone: str, output_stride: int) -> Pair:
    import transformers

    if model != "deeplabv3" or backbone != "mobilenetv2_100":
        raise _no_such_network("transformers", model, backbone)
    options: dict[str, Any] = {"output_stride": output_stride, "num_labels": CLASSES}
    config = transformers.MobileNetV2Config(**options)
    network = transformers.MobileNetV2ForSemanticSegmentation(config)
    translation = translate("transformers", network.state_dict(), output_stride=output_stride)
    return _pair(network, translation, lambda outputs: outputs.logits)


def _pair(
    network: nn.Module, translation: Translation, logits: Callable[[Any], Tensor] = lambda outputs: outputs
) -> Pair:
    ours = build_segmentor(translation.model, translation.num_classes)
    ours.load_state_dict(translation.state)
    return Pair(Complete(network, ours, logits), ours)


def _no_such_network(peer: str, model: str, backbone: str) -> AtrousError:
    return AtrousError(f"{peer} has no {model} on {backbone} at this output stride")


PEERS: dict[str, Callable[[str, str, int], Pair]] = {
    "smp": _smp,
    "torchvision": _torchvision,
    "transformers": _transformers,
}
"""What builds the networks of each peer."""
