"""Which parameters learn how fast."""

from __future__ import annotations

from typing import Any

from atrous.segmentor import Segmentor


def parameter_groups(
    segmentor: Segmentor, learning_rate: float, *, weight_decay: float, head_factor: float = 10.0
) -> list[dict[str, Any]]:
    """Split trainable parameters into backbone and new layers, each with and without weight decay.

    Only filters decay: biases, scale and shift of normalisation layers, and other vectors do not. Layers outside the
    backbone start from random weights and learn ``head_factor`` times faster (DeepLabv1 §4, v2 §4.1).

    Args:
        segmentor: The network.
        learning_rate: Base learning rate, the backbone's.
        weight_decay: Weight decay of the convolutions.
        head_factor: Learning rate of all other layers over the backbone's.

    Returns:
        Optimiser groups named ``backbone``, ``backbone_no_decay``, ``head``, ``head_no_decay``, without empty ones.
    """
    groups: dict[str, dict[str, Any]] = {}
    for part, factor in (("backbone", 1.0), ("head", head_factor)):
        for suffix, decay in (("", weight_decay), ("_no_decay", 0.0)):
            name = part + suffix
            groups[name] = {"name": name, "params": [], "lr": learning_rate * factor, "weight_decay": decay}
    for name, parameter in segmentor.named_parameters():
        if parameter.requires_grad:
            part = "backbone" if name.startswith("backbone.") else "head"
            groups[part if parameter.ndim > 1 else f"{part}_no_decay"]["params"].append(parameter)
    return [group for group in groups.values() if group["params"]]
