"""Which parameters learn, and how fast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from atrous.errors import AtrousError
from atrous.models.atrous_convolution import is_depthwise
from atrous.models.segmentor import Segmentor


def parameter_groups(
    segmentor: Segmentor,
    learning_rate: float,
    *,
    weight_decay: float,
    head_factor: float = 10.0,
    bias_factor: float = 1.0,
    depthwise_decay: bool = True,
) -> list[dict[str, Any]]:
    """Split trainable parameters into backbone and new layers, each with and without weight decay.

    Only filters decay: biases, scale and shift of normalization layers, other vectors and a CRF do not. Layers outside
    the backbone start from random weights and learn ``head_factor`` times faster (DeepLabv1 §4, v2 §4.1), except those
    that a head inherits from the pretrained classifier, and those of an upsampler that were fitted beforehand.

    Args:
        segmentor: The network.
        learning_rate: Base learning rate, the backbone's.
        weight_decay: Weight decay of the convolutions.
        head_factor: Learning rate of all other layers over the backbone's.
        bias_factor: Learning rate of the biases of convolutions over that of their weights; other than 1 puts them
            into groups of their own.
        depthwise_decay: Whether filters of depthwise convolutions decay; in the authors' Xception and MobileNetV2 they
            do not (TensorFlow DeepLab, core/xception.py, ``regularize_depthwise``).

    Returns:
        Optimizer groups named ``backbone``, ``backbone_bias``, ``backbone_no_decay``, ``head``, ``head_bias``,
        ``head_no_decay``, without empty ones.
    """
    groups: dict[str, dict[str, Any]] = {}
    for part, factor in (("backbone", 1.0), ("head", head_factor)):
        for suffix, decay, times in (("", weight_decay, 1.0), ("_bias", 0.0, bias_factor), ("_no_decay", 0.0, 1.0)):
            name = part + suffix
            groups[name] = {
                "name": name,
                "params": [],
                "lr": learning_rate * factor * times,
                "weight_decay": decay,
            }
    pretrained = (
        "backbone.",
        *(f"head.{name}" for name in segmentor.head.pretrained_names),
        *(f"upsampler.{name}" for name in segmentor.upsampler.pretrained_names),
    )
    biases = _biases_of_convolutions(segmentor) if bias_factor != 1 else set()
    undecayed = set() if depthwise_decay else _depthwise_filters(segmentor)
    for name, parameter in segmentor.named_parameters():
        if parameter.requires_grad:
            part = "backbone" if name.startswith(pretrained) else "head"
            filters = parameter.ndim > 1 and name not in undecayed and not name.startswith("crf.")
            suffix = "" if filters else "_bias" if name in biases else "_no_decay"
            groups[part + suffix]["params"].append(parameter)
    return [group for group in groups.values() if group["params"]]


def train_only(segmentor: Segmentor, names: Sequence[str]) -> None:
    """Freeze every parameter whose name begins with none of the given names.

    Raises:
        AtrousError: No name is given, or a name matches no parameter.
    """
    if not names:
        raise AtrousError("task.train_only=[] leaves nothing to train: name parts such as head, or set it to null")
    parameters = dict(segmentor.named_parameters())
    for name in names:
        if not any(each.startswith(name) for each in parameters):
            parts = sorted({".".join(each.split(".")[:2]) for each in parameters})
            raise AtrousError(
                f"task.train_only names {name!r}, but no parameter begins with it; parts are {', '.join(parts)}"
            )
    for each, parameter in parameters.items():
        parameter.requires_grad_(parameter.requires_grad and each.startswith(tuple(names)))


def _biases_of_convolutions(segmentor: Segmentor) -> set[str]:
    return {
        f"{name}.bias"
        for name, module in segmentor.named_modules()
        if isinstance(module, nn.modules.conv._ConvNd | nn.Linear)
    }


def _depthwise_filters(segmentor: Segmentor) -> set[str]:
    return {f"{name}.weight" for name, module in segmentor.named_modules() if is_depthwise(module)}
