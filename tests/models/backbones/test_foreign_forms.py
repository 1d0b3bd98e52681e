"""Options that give a backbone the form of another project's network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from atrous.errors import AtrousError
from atrous.models.backbones import TimmBackbone

Randomize = Callable[[nn.Module], nn.Module]


def image() -> Tensor:
    return torch.randn(1, 3, 65, 65, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2_050", "tf_efficientnet_lite0"])
def test_folding_keeps_the_function_and_leaves_no_batch_norm(
    name: str, randomize: Randomize, tmp_path: Any, difference: Callable[[Tensor, Tensor], float]
) -> None:
    whole = TimmBackbone(name)
    randomize(whole)
    torch.save(whole.network.state_dict(), tmp_path / "weights.pt")
    folded = TimmBackbone(name, pretrained=str(tmp_path / "weights.pt"), norm="folded").double().eval()
    assert not any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in folded.modules())
    assert all(layer.bias is not None for layer in folded.modules() if isinstance(layer, nn.Conv2d))
    for output_stride in (16, 8):
        for network in (whole, folded):
            network.set_output_stride(output_stride)
        for mine, wanted in zip(folded(image()), whole(image()), strict=True):
            assert difference(mine, wanted) < 1e-5  # folded in single precision


@pytest.mark.parametrize("output_stride", [16, 8])
def test_units_that_lose_their_stride_can_have_the_rate_of_those_behind(output_stride: int) -> None:
    """As segmentation_models.pytorch dilates whole stages."""
    rates = {"before": {16: [1, 1, 1, 2], 8: [1, 2, 2, 4]}, "behind": {16: [1, 1, 2, 2], 8: [2, 2, 4, 4]}}
    for strided_rate, wanted in rates.items():
        network = TimmBackbone("resnet18", output_stride=output_stride, strided_rate=strided_rate).network
        units = (network.layer3[0].conv1, network.layer3[1].conv1, network.layer4[0].conv1, network.layer4[1].conv1)
        assert [unit.dilation[0] for unit in units] == wanted[output_stride]
        assert [unit.padding[0] for unit in units] == wanted[output_stride]


def test_own_normalization_and_epsilon() -> None:
    backbone = TimmBackbone("resnet18", mean=[0.1, 0.2, 0.3], std=[0.5, 0.5, 0.5], batch_norm_eps=0.25)
    assert (backbone.mean, backbone.std) == ((0.1, 0.2, 0.3), (0.5, 0.5, 0.5))
    assert {layer.eps for layer in backbone.modules() if isinstance(layer, nn.BatchNorm2d)} == {0.25}


def test_half_width_as_tensorflows_deeplab_counts_it() -> None:
    """Channels and kernels of Google's file: 24 channels become 12, not 16."""
    network = TimmBackbone("tf_deeplab_mobilenetv2_050", output_stride=8)
    assert network.network.conv_stem.out_channels == 16
    widths = [stage[-1].conv_pwl.out_channels for stage in list(network.network.blocks)[1:]]
    assert widths == [12, 16, 32, 48, 80, 160]
    assert network.mean == network.std == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "group"}, "norm='group' of backbone 'test_resnet' is unknown; choose batch or folded"),
        (
            {"strided_rate": "after"},
            "strided_rate='after' of backbone .* is unknown; choose before or behind",
        ),
        ({"mean": [0.5]}, r"mean=\[0\.5\] of a backbone's input must have three values"),
    ],
)
def test_unknown_values_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(AtrousError, match=message):
        TimmBackbone("test_resnet", **options)


def test_a_norm_before_its_convolution_cannot_be_folded() -> None:
    with pytest.raises(AtrousError, match="does not follow an ordinary convolution"):
        TimmBackbone("densenet121", norm="folded")
