"""Every trainable parameter learns in exactly one group, at the rate of its part."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from atrous.errors import AtrousError
from atrous.models.backbones import VGG16
from atrous.models.heads import DeepLabV3Head
from atrous.models.heads.aspp_sum import ASPPSumHead
from atrous.models.heads.large_fov import LargeFOVHead
from atrous.models.segmentor import Segmentor
from atrous.models.upsamplers import DUpsampling
from atrous.training import freeze_batch_norm, parameter_groups
from atrous.training.parameter_groups import train_only

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


@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_convnext", "test_resnet"])
def test_filters_of_depthwise_convolutions_need_not_decay(segmentor: Build, backbone: str) -> None:
    """A depthwise filter has one input channel and as many groups as channels; all else stays where it was."""
    network = segmentor(backbone, separable=True)
    usual, authors = groups_of(network), groups_of(network, depthwise_decay=False)
    depthwise = {
        name
        for name, parameter in network.named_parameters()
        if parameter.ndim == 4 and parameter.shape[1] == 1 < parameter.shape[0] and parameter.shape[-1] > 1
    }
    assert any(name.startswith("head.") for name in depthwise)
    assert any(name.startswith("backbone.") for name in depthwise) == (backbone != "test_resnet")
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    for part in ("backbone", "head"):
        filters, others = authors[part], authors[f"{part}_no_decay"]
        moved = {names[id(p)] for p in others["params"]} - {names[id(p)] for p in usual[f"{part}_no_decay"]["params"]}
        assert moved == {name for name in depthwise if name.startswith(part)}
        kept = {names[id(p)] for p in usual[part]["params"]} - moved
        assert {names[id(p)] for p in filters["params"]} == kept
        assert (others["weight_decay"], others["lr"]) == (0.0, usual[part]["lr"])


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


def test_an_optimizer_takes_the_groups(segmentor: Build) -> None:
    groups = parameter_groups(segmentor(), 0.01, weight_decay=4e-5)
    optimizer = torch.optim.SGD(groups, momentum=0.9)
    names = ["backbone", "backbone_no_decay", "head", "head_no_decay"]
    assert [group["name"] for group in optimizer.param_groups] == names


def deeplab(head: Callable[..., Any] = LargeFOVHead, **options: Any) -> Segmentor:
    """A narrow VGG-16 with a head of DeepLabv1 or v2."""
    return Segmentor(backbone=VGG16(channels=(2, 3, 4, 5, 6)), head=partial(head, **options), num_classes=3)


RELEASED = [
    (partial(LargeFOVHead, channels=7), ("fc6", "fc7")),
    (partial(ASPPSumHead, hidden=7), ("fc6", "fc7")),
    (partial(ASPPSumHead, hidden=None), ()),
]


@pytest.mark.parametrize(("head", "inherited"), RELEASED, ids=["v1", "v2 on VGG-16", "v2 on ResNets"])
def test_rates_of_the_released_nets(head: Callable[..., Any], inherited: tuple[str, ...]) -> None:
    """Weights at 1×, biases at 2×, those of fc8 at 10× and 20×; biases do not decay (v1 and v2's prototxts)."""
    network = deeplab(head)
    groups = groups_of(network, head_factor=10, bias_factor=2, weight_decay=5e-4)
    where = {id(p): group for group in groups.values() for p in group["params"]}
    assert len(where) == len(list(network.parameters()))
    for name, parameter in network.named_parameters():
        old = name.startswith(("backbone.", *(f"head.{part}." for part in inherited)))
        bias = name.endswith("bias")
        group = where[id(parameter)]
        assert group["lr"] == pytest.approx(0.01 * (1 if old else 10) * (2 if bias else 1)), name
        assert group["weight_decay"] == (0.0 if bias else 5e-4), name
    assert list(groups) == ["backbone", "backbone_bias", "head", "head_bias"]


def test_shift_of_batch_norm_is_no_bias_of_a_convolution(segmentor: Build) -> None:
    network = segmentor("test_resnet")
    groups = groups_of(network, bias_factor=2)
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    unhurried = {id(p) for name in ("backbone_no_decay", "head_no_decay") for p in groups[name]["params"]}
    assert {id(p) for norm in norms for p in norm.parameters()} == unhurried
    assert {groups["backbone_no_decay"]["lr"], groups["head_no_decay"]["lr"]} == {0.01, 0.1}
    assert [id(p) for p in groups["head_bias"]["params"]] == [id(network.head.classifier.bias)]
    assert groups["head_bias"]["lr"] == pytest.approx(0.2)


def test_layers_that_are_not_taken_over_are_new(segmentor: Build) -> None:
    """The same head on another backbone learns at the rate of new layers throughout."""
    network = Segmentor(backbone=segmentor().backbone, head=partial(LargeFOVHead, channels=7), num_classes=3)
    groups = groups_of(network, head_factor=10)
    head = {id(p) for group in groups.values() if group["name"].startswith("head") for p in group["params"]}
    assert head == {id(p) for p in network.head.parameters()}


def test_only_named_parts_train() -> None:
    network = deeplab(channels=7)
    train_only(network, ["head.fc8", "backbone.layers.conv5"])
    names = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    parts = ("head.fc8.", "backbone.layers.conv5_")
    assert names == {name for name, _ in network.named_parameters() if name.startswith(parts)}
    assert len(names) == 8
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    optimizer = torch.optim.SGD(parameter_groups(network, 0.1, weight_decay=5e-4, bias_factor=2), momentum=0.9)
    network.eval()(255 * torch.rand(1, 3, 33, 33)).square().sum().backward()
    optimizer.step()
    moved = {n for n, parameter in network.named_parameters() if not torch.equal(parameter, before[n])}
    assert {"head.fc8.weight", "head.fc8.bias"} <= moved <= names


def test_what_is_frozen_already_stays_frozen(segmentor: Build) -> None:
    network = segmentor("test_resnet")
    freeze_batch_norm(network)
    train_only(network, ["head."])
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert not any(p.requires_grad for norm in norms for p in norm.parameters())
    assert network.head.classifier.weight.requires_grad


def test_a_part_that_does_not_exist() -> None:
    with pytest.raises(
        AtrousError, match=r"train_only names 'head.taps', .*; parts are .*head.fc6, head.fc7, head.fc8"
    ):
        train_only(deeplab(channels=7), ["head.taps"])


@pytest.mark.parametrize(("weights", "factor"), [("fit", 1), ("random", 10)])
def test_a_fitted_decoder_learns_as_fast_as_the_backbone(segmentor: Build, weights: str, factor: int) -> None:
    network = Segmentor(
        backbone=segmentor().backbone,
        head=partial(DeepLabV3Head, aspp_channels=8),
        num_classes=3,
        upsampler=partial(DUpsampling, ratio=16, width=4, weights=weights),
    )
    where = {id(p): group for group in groups_of(network, head_factor=10).values() for p in group["params"]}
    rates = {name: where[id(p)]["lr"] for name, p in network.upsampler.named_parameters()}
    assert rates == {"decoder.0.weight": pytest.approx(0.01 * factor), "temperature": pytest.approx(0.1)}
