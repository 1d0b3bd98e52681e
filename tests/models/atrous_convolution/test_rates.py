"""Rates of convolutions: the map keeps its size, and the field of view its pixels."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from atrous.models.atrous_convolution import is_depthwise, rate_at, set_rate


@pytest.mark.parametrize("kernel", [1, 3, 5, 7, (3, 1), 2, 4])
@pytest.mark.parametrize("rate", [1, 2, 3, 12])
def test_the_map_keeps_its_size(kernel: int | tuple[int, int], rate: int) -> None:
    convolution = nn.Conv2d(2, 3, kernel)
    weight = convolution.weight.clone()
    set_rate(convolution, rate)
    feature = torch.zeros(1, 2, 41, 37)
    short = [(extent - 1) * rate % 2 for extent in convolution.kernel_size]  # an even kernel at an odd rate
    assert convolution(feature).shape[-2:] == (41 - short[0], 37 - short[1])
    assert torch.equal(convolution.weight, weight)


@pytest.mark.parametrize("rate", [1, 2, 5])
def test_taps_are_a_rate_apart_around_their_own_place(rate: int) -> None:
    convolution = nn.Conv2d(1, 1, 3, bias=False)
    set_rate(convolution, rate)
    nn.init.ones_(convolution.weight)
    feature = torch.zeros(1, 1, 21, 21)
    feature[..., 10, 10] = 1
    seen = convolution(feature)[0, 0].nonzero().tolist()
    assert seen == [[10 + rate * i, 10 + rate * j] for i in (-1, 0, 1) for j in (-1, 0, 1)]


def test_rates_scale_with_the_output_stride() -> None:
    """(6, 12, 18) at 16 become (12, 24, 36) at 8 (v3 §3.3); 12 at 8 becomes 6 at 16 (v1, v2), and never less than 1."""
    assert [rate_at(rate, 8, given_at=16) for rate in (6, 12, 18)] == [12, 24, 36]
    assert [rate_at(12, stride, given_at=8) for stride in (8, 16, 32)] == [12, 6, 3]
    assert rate_at(1, 32, given_at=8) == 1


@pytest.mark.parametrize(
    ("layer", "depthwise"),
    [
        (nn.Conv2d(8, 8, 3, groups=8), True),
        (nn.Conv2d(8, 16, 3, groups=8), True),  # two filters a channel
        (nn.Conv2d(8, 8, 3, groups=4), False),
        (nn.Conv2d(8, 8, 3), False),
        (nn.Conv2d(1, 8, 3), False),  # one channel is all there is
        (nn.ConvTranspose2d(8, 8, 3, groups=8), False),
        (nn.Identity(), False),
    ],
)
def test_depthwise_layers(layer: nn.Module, depthwise: bool) -> None:
    assert is_depthwise(layer) == depthwise
