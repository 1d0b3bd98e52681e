"""Every trainable parameter learns in exactly one group, at the rate of its part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from atrous.segmentor import Segmentor
from atrous.training import freeze_batch_norm, parameter_groups

Build = Callable[..., Segmentor]
BACKBONES = ["test_resnet", "test_efficientnet", "test_convnext", "test_byobnet"]


def groups_of(segmentor: Segmentor, **options: Any) -> dict[str, dict[str, Any]]:
    groups = parameter_groups(segmentor, 0.01, **{"weight_decay": 4e-5, **options})
    return {group["name"]: group for group in groups}


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("separable", [False, True])
def test_every_trainable_parameter_is_in_exactly_one_group(segmentor: Build, backbone: str, separable: bool) -> None:
    network = segmentor(backbone, separable=separable)
    grouped = [id(parameter) for group in groups_of(network).values() for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in network.parameters())


@pytest.mark.parametrize("backbone", BACKBONES)
def test_parts_learn_at_their_rates_and_only_filters_decay(segmentor: Build, backbone: str) -> None:
    network = segmentor(backbone)
    where = {id(p): group for group in groups_of(network, head_factor=10).values() for p in group["params"]}
    for name, parameter in network.named_parameters():
        group = where[id(parameter)]
        assert group["lr"] == pytest.approx(0.01 if name.startswith("backbone.") else 0.1), name
        assert group["weight_decay"] == (4e-5 if parameter.ndim > 1 else 0.0), name
        assert not (name.endswith("bias") and group["weight_decay"]), name


def test_head_factor_of_one(segmentor: Build) -> None:
    assert {group["lr"] for group in groups_of(segmentor(), head_factor=1).values()} == {0.01}


def test_frozen_parameters_and_empty_groups_are_left_out(segmentor: Build) -> None:
    network = segmentor("test_resnet")
    freeze_batch_norm(network)
    groups = groups_of(network)
    grouped = {id(parameter) for group in groups.values() for parameter in group["params"]}
    assert grouped == {id(p) for p in network.parameters() if p.requires_grad}
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert norms
    assert not grouped & {id(p) for norm in norms for p in norm.parameters()}
    assert all(group["params"] for group in groups.values())


def test_an_optimiser_takes_the_groups(segmentor: Build) -> None:
    groups = parameter_groups(segmentor(), 0.01, weight_decay=4e-5)
    optimizer = torch.optim.SGD(groups, momentum=0.9)
    names = ["backbone", "backbone_no_decay", "head", "head_no_decay"]
    assert [group["name"] for group in optimizer.param_groups] == names
