"""Synchronized batch norms: the same network, and back again."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import atrous
from atrous.composition.compose import compose
from atrous.composition.parts import build_trainer
from atrous.training.synchronized_batch_norm import SynchronizedBatchNorm


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenetv2_050", "efficientnet_lite0", "xception41"])
@torch.no_grad()
def test_the_network_stays_the_same(backbone: str) -> None:
    """PyTorch's own conversion loses the ReLU6 of MobileNetV2 and EfficientNet."""
    torch.manual_seed(0)
    network = atrous.create("deeplabv3plus", backbone, num_classes=4)
    image = torch.randint(0, 256, (2, 3, 65, 65), dtype=torch.uint8)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    network(image)  # now statistics fit, so logits are neither tiny nor huge
    network.eval()
    wanted, modules, names = network(image), dict(network.named_modules()), list(network.state_dict())
    tensors = {name: tensor.data_ptr() for name, tensor in network.state_dict().items()}
    plugin = SynchronizedBatchNorm()
    plugin.apply(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert list(network.state_dict()) == names
    close = 1e-3 * float(wanted.std())
    torch.testing.assert_close(network(image), wanted, rtol=0, atol=close)
    for module in network.modules():
        if isinstance(module, nn.SyncBatchNorm):
            module.running_mean += 0.1
    moved = network(image)
    assert not torch.allclose(moved, wanted, rtol=0, atol=10 * close)
    plugin.revert(network)
    assert dict(network.named_modules()) == modules  # the same objects
    assert {name: tensor.data_ptr() for name, tensor in network.state_dict().items()} == tensors
    torch.testing.assert_close(network(image), moved, rtol=0, atol=close)


def test_hooks_go_along_and_new_statistics_come_back() -> None:
    network, seen = nn.Sequential(nn.BatchNorm2d(3)).train(), []
    norm = network[0]
    norm.register_forward_hook(lambda module, inputs, output: seen.append(output))
    plugin = SynchronizedBatchNorm()
    plugin.apply(network)
    network.eval()(torch.zeros(1, 3, 2, 2))
    assert len(seen) == 1
    network[0].running_mean = torch.ones(3)  # as a checkpoint or a move to another device does
    plugin.revert(network)
    assert network[0] is norm
    assert not norm.training
    assert norm.running_mean.equal(torch.ones(3))


@pytest.mark.parametrize("synchronized", [True, False])
def test_the_trainer_synchronizes_by_it(synchronized: bool) -> None:
    words = ["callbacks=none", "logger=none", "trainer=cpu", f"trainer.sync_batchnorm={synchronized}"]
    with compose("train", words) as config:
        trainer = build_trainer(config)
    plugin = trainer._accelerator_connector._layer_sync
    assert isinstance(plugin, SynchronizedBatchNorm) if synchronized else plugin is None
