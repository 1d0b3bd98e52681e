"""Some rows of an upsampler's logits, and logits between pixels, are those of the whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from torch import nn

from atrous.geometry import Grid
from atrous.models.upsamplers import Bilinear, Deconvolution, DUpsampling, SubPixel, Upsampler

KINDS: dict[str, Any] = {
    "bilinear": Bilinear,
    "deconvolution": lambda **parts: Deconvolution(ratio=8, **parts),
    "deconvolution of each class": lambda **parts: Deconvolution(ratio=8, mixes_classes=False, **parts),
    "sub-pixel": lambda **parts: SubPixel(ratio=8, **parts),
    "sub-pixel in cells": lambda **parts: SubPixel(ratio=8, cell=2, **parts),
    "dupsampling": lambda **parts: DUpsampling(ratio=8, weights="random", width=5, **parts),
    "dupsampling with a hidden layer": lambda **parts: DUpsampling(
        ratio=8, weights="random", hidden=6, width=5, **parts
    ),
}


@pytest.fixture(params=KINDS)
def kind(request: Any) -> Any:
    return KINDS[request.param]


def built(kind: Any, grid: Grid) -> Upsampler:
    torch.manual_seed(0)
    upsampler: Upsampler = kind(grid=grid, num_classes=3)
    with torch.no_grad():
        for parameter in upsampler.parameters():
            nn.init.normal_(parameter)
    return upsampler


@torch.no_grad()
@pytest.mark.parametrize("grid", Grid)
def test_rows_are_those_of_all_logits(kind: Any, grid: Grid) -> None:
    upsampler = built(kind, grid)
    scores = torch.randn(2, upsampler.score_channels, 6, 4)
    size = grid.pixels(6, 8), grid.pixels(4, 8)
    whole = upsampler(scores, size)
    for first in range(size[0]):
        for count in (1, 5, 16, size[0]):
            rows = slice(first, min(size[0], first + count))
            torch.testing.assert_close(upsampler.rows(scores, size, rows), whole[:, :, rows], atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("grid", Grid)
def test_few_scores_are_read_for_a_row(kind: Any, grid: Grid) -> None:
    """Scores far away are not touched: not-a-number there does no harm."""
    upsampler = built(kind, grid)
    scores = torch.randn(1, upsampler.score_channels, 20, 3)
    size = grid.pixels(20, 8), grid.pixels(3, 8)
    whole = upsampler(scores, size)
    scores[:, :, :6], scores[:, :, 14:] = torch.nan, torch.nan
    torch.testing.assert_close(upsampler.rows(scores, size, slice(76, 84)), whole[:, :, 76:84], atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("grid", Grid)
def test_between_pixels_logits_are_interpolated(kind: Any, grid: Grid) -> None:
    """From scores where upsampling is linear itself, which agrees on pixels and between two of them."""
    upsampler = built(kind, grid)
    scores = torch.randn(1, upsampler.score_channels, 5, 4)
    size = grid.pixels(5, 8), grid.pixels(4, 8)
    down, across = (
        torch.tensor([4.0, 7.25, 7.5, 19.75], dtype=torch.float64),
        torch.tensor([5.5, 12], dtype=torch.float64),
    )
    if upsampler.ratio is None:  # a kink between two pixels is rounded off by interpolating between them
        down, across = down.round(), across.round()
    (found,) = upsampler.at(scores, size, down, across)
    (whole,) = upsampler(scores, size)
    places = np.stack(np.meshgrid(down, across, indexing="ij"))
    wanted = [map_coordinates(logits.double().numpy(), places, order=1) for logits in whole]
    np.testing.assert_allclose(found.numpy(), np.stack(wanted), atol=1e-4)


@torch.no_grad()
def test_an_upsampler_of_somebody_else_is_computed_whole() -> None:
    class Nearest(Upsampler):
        def __init__(self) -> None:
            super().__init__()
            self.grid, self.score_channels = Grid.CELLS, 2

        def forward(self, scores: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
            return nn.functional.interpolate(scores, size=size)

    scores = torch.randn(1, 2, 4, 4)
    assert torch.equal(Nearest().rows(scores, (32, 32), slice(3, 9)), Nearest()(scores, (32, 32))[:, :, 3:9])
