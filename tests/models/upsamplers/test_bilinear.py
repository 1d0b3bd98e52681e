"""Interpolation keeps samples where they lie in the image."""

from __future__ import annotations

import pytest
import torch

from atrous.geometry import Grid
from atrous.models.upsamplers import Bilinear


def ramp(height: int, width: int) -> torch.Tensor:
    """Rows count by ten, columns by one: linear interpolation reproduces it exactly."""
    return (10.0 * torch.arange(height)[:, None] + torch.arange(width)).view(1, 1, height, width).double()


@pytest.mark.parametrize("stride", [4, 8, 16])
def test_points_lie_on_every_stride_th_pixel(stride: int) -> None:
    fine = Grid.POINTS.resize(ramp(3, 5), (2 * stride + 1, 4 * stride + 1))
    torch.testing.assert_close(fine[..., ::stride, ::stride], ramp(3, 5))
    torch.testing.assert_close(fine[0, 0, 1, 1], torch.tensor(11 / stride, dtype=torch.float64))


@pytest.mark.parametrize("stride", [4, 8])
def test_cells_lie_in_the_middle_of_their_pixels(stride: int) -> None:
    fine = Grid.CELLS.resize(ramp(3, 5), (3 * stride, 5 * stride))
    rows = (torch.arange(3 * stride).double() + 0.5) / stride - 0.5
    columns = (torch.arange(5 * stride).double() + 0.5) / stride - 0.5
    expected = 10 * rows.clamp(0, 2)[:, None] + columns.clamp(0, 4)  # beyond the outermost middles it is constant
    torch.testing.assert_close(fine[0, 0], expected)


def test_the_module_takes_the_size_and_has_no_parameters() -> None:
    upsampler = Bilinear(grid=Grid.POINTS, num_classes=3)
    scores = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    assert upsampler(scores, (49, 81)).shape == (2, 3, 49, 81)
    assert torch.equal(upsampler(scores, (4, 6)), scores)
    assert list(upsampler.parameters()) == []


def test_one_sample_spreads_over_the_whole_map() -> None:
    for grid in Grid:
        spread = grid.resize(torch.full((1, 1, 1, 1), 3.0), (5, 7))
        torch.testing.assert_close(spread, torch.full((1, 1, 5, 7), 3.0))
