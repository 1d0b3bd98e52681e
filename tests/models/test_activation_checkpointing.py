"""Activations that are computed again: less memory, and everything else as it was."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import atrous
from atrous.models import Segmentor
from atrous.models.activation_checkpointing import is_recomputing, recompute_in_backward, units_of

NETWORKS = [
    ("deeplabv3plus", "resnet18", ()),
    ("deeplabv3plus", "mobilenetv2_050", ("model.head.aspp_channels=32", "model.head.decoder_channels=32")),
    ("deeplabv3plus", "xception41", ("model.head.aspp_channels=32", "model.head.decoder_channels=32")),
    ("deeplabv3_cascade", "resnet18", ()),
    ("deeplabv1_msc", "vgg16", ("backbone.channels=[8,8,8,8,8]", "model.head.head.channels=16")),
    ("deeplabv2", "resnet18", ("model.scales=[1,0.5]",)),
]


def network_of(model: str, backbone: str, overrides: tuple[str, ...] = ()) -> Segmentor:
    torch.manual_seed(0)
    segmentor = atrous.create(model, backbone, num_classes=3, pretrained=False, overrides=overrides).train()
    return segmentor.to(memory_format=torch.channels_last)


def images(batch: int = 2, side: int = 65) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(0, 256, (batch, 3, side, side), generator=generator, dtype=torch.uint8)
    return image.contiguous(memory_format=torch.channels_last)


def step(segmentor: Segmentor, image: Tensor | None = None) -> dict[str, Tensor]:
    """Gradients and buffers after a step whose dropout is drawn from one seed."""
    torch.manual_seed(2)
    outputs = segmentor(images() if image is None else image, outputs="all")
    sum(output.square().mean() for output in outputs.values()).backward()
    found = {name: weight.grad for name, weight in segmentor.named_parameters() if weight.grad is not None}
    return found | {name: buffer.clone() for name, buffer in segmentor.named_buffers()}


@pytest.mark.parametrize(("model", "backbone", "overrides"), NETWORKS, ids=lambda value: str(value))
def test_gradients_and_statistics_are_the_same(model: str, backbone: str, overrides: tuple[str, ...]) -> None:
    plain = network_of(model, backbone, overrides)
    recomputing = copy.deepcopy(plain)
    recomputing.checkpoint_activations()
    assert [*recomputing.state_dict()] == [*plain.state_dict()]
    wanted, found = step(plain), step(recomputing)
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-6, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("order", [torch.channels_last, torch.contiguous_format])
def test_batch_norms_of_pytorch(order: torch.memory_format) -> None:
    """Which PyTorch computes itself, as on a GPU, and whose statistics it keeps between the way there and back."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4, affine=False, momentum=None))
    recomputing = copy.deepcopy(plain)
    recompute_in_backward([recomputing])
    image = torch.randn(2, 3, 9, 9).contiguous(memory_format=order)
    for network in (plain, recomputing):
        network(image).square().sum().backward()
    torch.testing.assert_close(recomputing[0].weight.grad, plain[0].weight.grad)
    for name, statistic in plain.named_buffers():
        assert torch.equal(recomputing.get_buffer(name), statistic), name


def kept(segmentor: Segmentor) -> int:
    """Bytes that autograd keeps between the way there and the way back, weights left out."""
    weights = {weight.data_ptr() for weight in segmentor.parameters()}
    tensors: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in weights:
            tensors[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = segmentor(images(side=129), outputs="scores")
    assert outputs["main"].requires_grad
    return sum(tensors.values())


@pytest.mark.parametrize(("model", "backbone", "overrides"), NETWORKS[:5], ids=lambda value: str(value))
def test_less_is_kept(model: str, backbone: str, overrides: tuple[str, ...]) -> None:
    plain = network_of(model, backbone, overrides)
    recomputing = copy.deepcopy(plain)
    recomputing.checkpoint_activations()
    assert kept(recomputing) < 0.5 * kept(plain)


def test_batch_norms_see_each_batch_once() -> None:
    """Computed twice, they would have moved twice; and frozen ones stay frozen."""
    segmentor = network_of("deeplabv3plus", "resnet18")
    segmentor.checkpoint_activations()
    frozen = segmentor.backbone.network.layer1[0].bn1.eval()
    before = frozen.running_mean.clone()
    step(segmentor)
    norms = [each for each in segmentor.modules() if isinstance(each, nn.BatchNorm2d)]
    assert {int(each.num_batches_tracked) for each in norms if each is not frozen} == {1}
    assert int(frozen.num_batches_tracked) == 0
    assert torch.equal(frozen.running_mean, before)
    assert all(each.track_running_stats for each in norms)


def test_a_second_step_finds_nothing_of_the_first() -> None:
    """Maps inside of units are tapped on the way there alone."""
    segmentor = network_of("deeplabv3plus", "xception41", NETWORKS[2][2])
    segmentor.checkpoint_activations()
    step(segmentor)
    assert segmentor.backbone._taken == {}
    assert not is_recomputing()


def test_prediction_computes_nothing_twice() -> None:
    segmentor = network_of("deeplabv3plus", "resnet18")
    segmentor.checkpoint_activations()
    calls: list[bool] = []
    segmentor.backbone.network.layer1[0].conv1.register_forward_hook(lambda *_: calls.append(is_recomputing()))
    with torch.no_grad():
        segmentor.eval()(images())
    assert calls == [False]
    step(segmentor.train())
    assert calls == [False, False, True]


@pytest.mark.parametrize("copies", [copy.deepcopy, lambda unit: pickle.loads(pickle.dumps(unit))])
def test_copies_compute_again_too(copies: Any) -> None:
    units = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3)))
    recompute_in_backward(units_of(units))
    recompute_in_backward(units_of(units))  # once more changes nothing
    copied = copies(units)
    calls: list[bool] = []
    copied[0][0].register_forward_hook(lambda *_: calls.append(is_recomputing()))
    copied(torch.rand(1, 3, 8, 8)).sum().backward()
    assert calls == [False, True]
    assert isinstance(copied[0], nn.Sequential)
    assert [*copied.state_dict()] == [*units.state_dict()]


def test_units_are_blocks_and_sequences_of_layers() -> None:
    resnet = network_of("deeplabv3plus", "resnet18")
    names = {id(module): name for name, module in resnet.named_modules()}
    units = [names[id(unit)] for unit in [*resnet.backbone.units(), *units_of(resnet.head)]]
    assert units == [
        *(f"backbone.network.layer{stage}.{unit}" for stage in (1, 2, 3, 4) for unit in (0, 1)),
        *("head.aspp.pooling.block", "head.aspp.pointwise", *(f"head.aspp.atrous.{i}" for i in range(3))),
        *("head.aspp.projection", "head.low_level.0", "head.refinement.0.0", "head.refinement.0.1"),
    ]
    vgg = network_of("deeplabv1", "vgg16", ("backbone.channels=[8,8,8,8,8]",))
    (first, *others) = vgg.backbone.units()
    assert [name for name, _ in first.named_children()] == ["conv1_1", "relu1_1", "conv1_2", "relu1_2", "pool1"]
    assert len(others) == 4


def test_tracing_and_export_see_the_plain_network() -> None:
    segmentor = network_of("deeplabv3plus", "resnet18").eval()
    segmentor.checkpoint_activations()
    image = images(1)
    wanted = segmentor(image)
    exported = torch.export.export(segmentor, (image,)).module()
    torch.testing.assert_close(exported(image), wanted, rtol=1e-4, atol=1e-4)
