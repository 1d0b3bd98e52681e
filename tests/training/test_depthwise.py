"""Filters of one input channel each."""

from __future__ import annotations

import pytest
from torch import nn

from atrous.training.depthwise import is_depthwise


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
