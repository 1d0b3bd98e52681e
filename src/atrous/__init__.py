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

# each function imports what it needs when it is called, to keep `import atrous` fast


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
        overrides: More command-line overrides, such as ``model.head.decoder_depth=1`` or ``upsampler=sub_pixel``.

    Returns:
        The network in training mode. With ``upsampler=dupsampling`` the upsampler has no weights until you call
        its ``load_code`` or the network's ``load_state_dict``.

    Raises:
        AtrousError: A name is unknown, or the values are incompatible.
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
    """Load a checkpoint's network and its card.

    Args:
        path: A checkpoint, the folder of a run (its best checkpoint), or a model of the Hugging Face Hub:
            ``hf://user/name``, or the folder that ``src/export.py format=hub`` writes.
        output_stride: 8, 16 or 32; ``None`` for the one used in training.
        trust: Packages besides ours whose classes the checkpoint may name; the named classes are run.

    Returns:
        The network in evaluation mode, and its card: label space, preprocessing, recipe, score.

    Raises:
        AtrousError: The checkpoint is missing, damaged or not ours, or names a forbidden class; or the output stride is
            impossible.
    """
    from atrous.checkpoints.load import load_segmentor

    return load_segmentor(path, output_stride=output_stride, trust=trust)


def list_models() -> list[str]:
    """Names of the models that ``create`` and ``model=`` accept."""
    from atrous.places import choices

    return choices("model")


def list_backbones() -> list[str]:
    """Names of the backbones that have a configuration file, for ``create`` and ``backbone=``."""
    from atrous.places import choices

    return choices("backbone")
