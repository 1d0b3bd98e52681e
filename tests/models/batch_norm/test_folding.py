"""Batch norms folded into convolutions: the same logits, and no batch norm left."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import atrous
from atrous.errors import AtrousError
from atrous.models.batch_norm import fold_batch_norms

NETWORKS = [
    *[(model, "resnet18", []) for model in ("deeplabv2", "deeplabv3", "deeplabv3_cascade", "hdc_duc", "deeplabv3plus")],
    ("deeplabv3plus", "mobilenetv2_050", []),
    ("deeplabv3plus", "xception41", []),
    ("deeplabv3plus", "efficientnet_lite0", []),
    ("deeplabv2", "resnet18", ["+model.scales=[1.0,0.5]", "model._target_=atrous.models.MultiScaleSegmentor"]),
]


def norms(network: nn.Module) -> list[str]:
    return [name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.mark.parametrize(("model", "backbone", "overrides"), NETWORKS)
@torch.no_grad()
def test_logits_stay(model: str, backbone: str, overrides: list[str]) -> None:
    torch.manual_seed(0)
    network = atrous.create(model, backbone, num_classes=5, overrides=overrides)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                tensor.uniform_(0.5, 1.5)
            for tensor in (module.bias, module.running_mean):
                tensor.uniform_(-0.2, 0.2)
    network.eval()
    image = torch.randint(0, 256, (2, 3, 97, 70), dtype=torch.uint8)
    wanted = network(image)
    folded = network.folded()
    assert norms(network)
    assert norms(folded) == []
    assert not folded.training
    torch.testing.assert_close(folded(image), wanted, rtol=0, atol=float(1e-4 * wanted.std()))
    torch.testing.assert_close(network(image), wanted)  # a copy was folded
    folded.set_output_stride(8)
    network.set_output_stride(8)
    torch.testing.assert_close(folded(image), network(image), rtol=0, atol=float(1e-4 * wanted.std()))


def test_filters_are_rounded_once() -> None:
    """Each number of a folded convolution is the exact one in float32."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16)).eval()
    convolution, norm = network
    with torch.no_grad():
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            tensor.uniform_(0.1, 1.5)
    exact = {name: value.double() for name, value in network.state_dict().items()}
    scale = exact["1.weight"] / (exact["1.running_var"] + norm.eps).sqrt()
    fold_batch_norms(network, lambda: network(torch.rand(1, 8, 5, 5)))
    assert torch.equal(convolution.weight, (exact["0.weight"] * scale[:, None, None, None]).float())
    bias = exact["1.bias"] + (exact["0.bias"] - exact["1.running_mean"]) * scale
    assert torch.equal(convolution.bias, bias.float())


class Twice(nn.Module):
    """Uses results of convolutions in ways that forbid to fold the norm behind them."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Conv2d(3, 3, 1)
        self.one, self.other = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.first = nn.BatchNorm2d(3)
        self.simple, self.last = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, image: Tensor) -> Tensor:
        seen = self.shared(self.first(image))
        result: Tensor = self.last(self.simple(self.one(seen) + self.other(seen)))
        return result


def test_norms_that_cannot_be_folded_stay() -> None:
    network = Twice().eval()
    image = torch.rand(1, 3, 4, 4)
    wanted = network(image)
    assert fold_batch_norms(network, lambda: network(image)) == ["one", "other", "first"]
    torch.testing.assert_close(network(image), wanted)


def test_a_result_that_is_used_beside_its_norm_is_noticed() -> None:
    network = atrous.create("deeplabv3plus", "resnet18", num_classes=5).eval()
    layer = network.backbone.network.layer1[0]
    nn.init.constant_(layer.bn1.running_mean, 3.0)
    nn.init.ones_(layer.bn2.weight)  # timm starts with 0, so that a block begins as nothing
    kept = []
    layer.conv1.register_forward_hook(lambda module, inputs, output: kept.append(output))
    layer.conv2.register_forward_pre_hook(lambda module, inputs: (inputs[0] + kept.pop(),))
    with pytest.raises(AtrousError, match="uses a convolution's result twice"):
        network.folded()
