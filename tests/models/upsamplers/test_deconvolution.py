"""Transposed convolution: bilinear at the start, learnable after."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from atrous.errors import AtrousError
from atrous.geometry import Grid
from atrous.models.upsamplers import Deconvolution


@pytest.mark.parametrize("ratio", [2, 4, 8])
@pytest.mark.parametrize("mixes_classes", [True, False])
def test_it_starts_as_bilinear_interpolation_on_points(ratio: int, mixes_classes: bool) -> None:
    upsampler = Deconvolution(grid=Grid.POINTS, num_classes=3, ratio=ratio, mixes_classes=mixes_classes).double()
    scores = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    size = (4 * ratio + 1, 6 * ratio + 1)
    torch.testing.assert_close(upsampler(scores, size), Grid.POINTS.resize(scores, size))


def test_it_starts_as_bilinear_interpolation_inside_cells() -> None:
    """Beyond the outermost middles interpolation repeats the border, which a convolution cannot."""
    upsampler = Deconvolution(grid=Grid.CELLS, num_classes=2, ratio=4).double()
    scores = torch.randn(1, 2, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    logits, expected = upsampler(scores, (20, 24)), Grid.CELLS.resize(scores, (20, 24))
    assert logits.shape == expected.shape
    torch.testing.assert_close(logits[..., 2:-2, 2:-2], expected[..., 2:-2, 2:-2])


def test_every_weight_learns() -> None:
    upsampler = Deconvolution(grid=Grid.POINTS, num_classes=2, ratio=2)
    scores = torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    upsampler(scores, (7, 7)).square().sum().backward()
    (weight,) = upsampler.parameters()
    assert weight.shape == (2, 2, 3, 3)
    assert weight.grad is not None
    assert bool((weight.grad != 0).all())


@pytest.mark.parametrize("ratio", [0, 1, 3])
def test_the_ratio_is_even(ratio: int) -> None:
    with pytest.raises(AtrousError, match=f"upsampler.ratio={ratio} must be an even number"):
        Deconvolution(grid=Grid.POINTS, num_classes=2, ratio=ratio)


def test_it_asks_the_head_for_class_scores() -> None:
    options: dict[str, Any] = {"grid": Grid.POINTS, "num_classes": 5, "ratio": 8}
    assert Deconvolution(**options).score_channels == 5
    assert Deconvolution(**options).ratio == 8
