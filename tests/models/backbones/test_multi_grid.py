"""Multi-grid: factors on the rates of the last stage, at every output stride."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from atrous.errors import AtrousError
from atrous.models.backbones import TimmBackbone


def rates(backbone: TimmBackbone) -> list[int]:
    return [unit.conv2.dilation[0] for unit in backbone.last_stage()]


@pytest.mark.parametrize(("output_stride", "expected"), [(32, [1, 2, 4]), (16, [1, 4, 8]), (8, [2, 8, 16])])
def test_rates_are_products(output_stride: int, expected: list[int]) -> None:
    """The unit that does the striding sees its input at half the stride of the others."""
    backbone = TimmBackbone("resnet50", output_stride=16)
    backbone.set_multi_grid((1, 2, 4))
    backbone.set_output_stride(output_stride)
    assert rates(backbone) == expected
    assert backbone.network.layer3[1].conv2.dilation[0] == {32: 1, 16: 1, 8: 2}[output_stride]


def test_the_papers_rates() -> None:
    """v3 §3.2.1: block 4 at output stride 16 has the rates (2, 4, 8), its first unit included."""
    backbone = TimmBackbone("resnet50", output_stride=16, strided_rate="behind")
    backbone.set_multi_grid((1, 2, 4))
    assert rates(backbone) == [2, 4, 8]
    assert [unit.conv2.dilation[0] for unit in backbone.network.layer3] == [1] * 6


@pytest.mark.parametrize(
    ("trained_at", "strided_rate"), [(32, "before"), (32, "behind"), (16, "behind"), (8, "behind")]
)
def test_the_same_weights_agree_at_every_output_stride(trained_at: int, strided_rate: str) -> None:
    """Atrous consistency holds with a multi-grid too: features at stride 32 are every second of those at stride 16."""
    torch.manual_seed(0)
    backbone = TimmBackbone("resnet18", output_stride=trained_at, strided_rate=strided_rate).eval().double()
    backbone.set_multi_grid((1, 2))
    backbone.set_output_stride(32)
    image = torch.randn(1, 3, 129, 193, dtype=torch.float64)
    with torch.no_grad():
        for module in backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
        coarse = backbone(image)[-1]
        for output_stride in (16, 8):
            backbone.set_output_stride(output_stride)
            fine = backbone(image)[-1][..., :: 32 // output_stride, :: 32 // output_stride]
            torch.testing.assert_close(fine, coarse)


def test_setting_it_again_replaces_it() -> None:
    backbone = TimmBackbone("resnet50", output_stride=32)
    backbone.set_multi_grid((1, 2, 4))
    backbone.set_multi_grid((1, 2, 1))
    assert rates(backbone) == [1, 2, 1]
    assert backbone.multi_grid == (1, 2, 1)


def test_only_the_last_stage_changes() -> None:
    plain, gridded = TimmBackbone("resnet18"), TimmBackbone("resnet18")
    gridded.load_state_dict(plain.state_dict())
    gridded.set_multi_grid((1, 4))
    image = torch.randn(1, 3, 65, 65, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        pairs = list(zip(plain.eval()(image), gridded.eval()(image), strict=True))
    assert all(torch.equal(*pair) for pair in pairs[:-1])


@pytest.mark.parametrize("wrong", [(1, 2), (1, 2, 4, 8), (0, 1, 2)])
def test_one_positive_factor_a_unit(wrong: tuple[int, ...]) -> None:
    with pytest.raises(
        AtrousError, match=r"model\.multi_grid=.* one positive number for each of the 3 units .*, or null"
    ):
        TimmBackbone("resnet50").set_multi_grid(wrong)


def test_a_backbone_without_units_is_refused() -> None:
    backbone = TimmBackbone("xception41", taps=["blocks.1.stack.conv2", "blocks.12"])
    with pytest.raises(AtrousError, match=r"model\.multi_grid is about .* is not a sequence of units"):
        backbone.set_multi_grid((1, 2, 4))


def test_own_rates_exclude_a_multi_grid() -> None:
    backbone = TimmBackbone("resnet50", output_stride=8, dilation="hdc")
    with pytest.raises(AtrousError, match=r"set model.multi_grid=null"):
        backbone.set_multi_grid((1, 2, 4))
