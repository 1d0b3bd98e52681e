"""The DeepLab family of semantic segmentation models: a network by name, or from a checkpoint, in one call.

Networks are plain PyTorch modules: images B×3×H×W, RGB, 0…255, of any size become logits B×C×H×W.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atrous.checkpoints.card import Card
    from atrous.models import Segmentor

__all__ = ["create", "list_backbones", "list_models", "load"]

# what a function needs is imported when it is called, so that `import atrous` takes no time


def create(
    model: str = "deeplabv3plus",
    backbone: str = "resnet50",
    *,
    num_classes: int,
    output_stride: int | None = None,
    pretrained: bool | str = False,
    overrides: Sequence[str] = (),
) -> Segmentor:
    """Build a network from the configuration files, as training does.

    Args:
        model: One of ``list_models()``.
        backbone: One of ``list_backbones()``, or timm's name of any model with convolutional feature maps.
        num_classes: Number of classes.
        output_stride: 8, 16 or 32; ``None`` for the backbone's default.
        pretrained: ``True`` for ImageNet weights, or a file with the backbone's weights.
        overrides: Further words of the command line, such as ``model.head.decoder_depth=1`` or ``upsampler=sub_pixel``.

    Returns:
        The network in training mode. One with ``upsampler=dupsampling`` lacks the weights of its upsampler until
        its ``load_code``, or the network's ``load_state_dict``.

    Raises:
        AtrousError: A name is unknown, or the values do not go together.
    """
    from atrous.composition.create import create_segmentor

    return create_segmentor(
        model,
        backbone,
        num_classes=num_classes,
        output_stride=output_stride,
        pretrained=pretrained,
        overrides=overrides,
    )


def load(path: str | Path, *, output_stride: int | None = None, trust: Sequence[str] = ()) -> tuple[Segmentor, Card]:
    """Load the network of a checkpoint and what the checkpoint says about it.

    Args:
        path: A checkpoint, or the folder of a run (its best checkpoint).
        output_stride: 8, 16 or 32; ``None`` for the one that it was trained at.
        trust: Packages whose classes the checkpoint may name besides ours: what it names is run.

    Returns:
        The network in evaluation mode, and its card: label space, preprocessing, recipe, score.

    Raises:
        AtrousError: The checkpoint is missing, damaged or not ours, or names what it may not; or the output stride is
            impossible.
    """
    from atrous.checkpoints.load import load_segmentor

    return load_segmentor(path, output_stride=output_stride, trust=trust)


def list_models() -> list[str]:
    """Names of the models, as ``create`` and ``model=`` take them."""
    return _choices("model")


def list_backbones() -> list[str]:
    """Names of the backbones with a configuration of their own, as ``create`` and ``backbone=`` take them."""
    return _choices("backbone")


def _choices(group: str) -> list[str]:
    from atrous.places import CONFIGURATION

    return sorted(path.stem for path in (CONFIGURATION / group).glob("*.yaml") if path.stem != "default")
