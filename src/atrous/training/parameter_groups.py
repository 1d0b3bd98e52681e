"""Which parameters learn how fast."""

from __future__ import annotations

from typing import Any

from torch import nn

from atrous.segmentor import Segmentor


def parameter_groups(
    segmentor: Segmentor, learning_rate: float, *, weight_decay: float, head_factor: float = 10.0
) -> list[dict[str, Any]]:
    """Split trainable parameters into backbone and new layers, each with and without weight decay.

    Biases and the parameters of normalisation layers do not decay. Layers outside the backbone start from random
    weights and learn ``head_factor`` times faster (DeepLabv1 §4, v2 §4.1).

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
    for module_name, module in segmentor.named_modules():
        part = "backbone" if module_name.split(".")[0] == "backbone" else "head"
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad:
                decays = name != "bias" and not isinstance(module, _NORMALISATIONS)
                groups[part if decays else f"{part}_no_decay"]["params"].append(parameter)
    return [group for group in groups.values() if group["params"]]


_NORMALISATIONS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)
