"""Depth to space against a loop over windows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from atrous.errors import AtrousError
from atrous.geometry import Grid
from atrous.models.upsamplers import SubPixel


def by_hand(scores: Tensor, side: int, grid: Grid, size: tuple[int, int]) -> Tensor:
    """Channel ``class·side² + row·side + column`` of a feature is one pixel of its window."""
    batch, channels, rows, columns = scores.shape
    classes = channels // side**2
    start = -(side // 2) if grid is Grid.POINTS else 0
    logits = torch.full((batch, classes, *size), float("nan"), dtype=scores.dtype)
    for i in range(rows):
        for j in range(columns):
            for label in range(classes):
                for y in range(side):
                    for x in range(side):
                        row, column = side * i + start + y, side * j + start + x
                        if 0 <= row < size[0] and 0 <= column < size[1]:
                            logits[:, label, row, column] = scores[:, label * side**2 + y * side + x, i, j]
    return logits


@pytest.mark.parametrize("grid", list(Grid))
@pytest.mark.parametrize("side", [2, 4])
def test_every_pixel_comes_from_its_window(grid: Grid, side: int) -> None:
    upsampler = SubPixel(grid=grid, num_classes=3, ratio=side)
    assert upsampler.score_channels == 3 * side**2
    scores = torch.randn(2, 3 * side**2, 4, 6, generator=torch.Generator().manual_seed(0))
    extra = 1 if grid is Grid.POINTS else 0
    size = (side * (4 - extra) + extra, side * (6 - extra) + extra)
    logits = upsampler(scores, size)
    assert logits.shape == (2, 3, *size)
    assert torch.equal(logits, by_hand(scores, side, grid, size))


def test_on_points_a_window_surrounds_its_feature() -> None:
    """A feature on pixel 8 of a grid of stride 8 says what lies on pixels 4 to 11."""
    scores = torch.zeros(1, 64, 3, 3)
    scores[:, :, 1, 1] = 1
    logits = SubPixel(grid=Grid.POINTS, num_classes=1, ratio=8)(scores, (17, 17))
    lit = logits[0, 0].nonzero()
    assert lit.min(dim=0).values.tolist() == [4, 4]
    assert lit.max(dim=0).values.tolist() == [11, 11]


def test_cells_share_a_logit() -> None:
    """The authors' Cityscapes network predicts at half resolution: 16 logits a class for a stride of 8."""
    upsampler = SubPixel(grid=Grid.POINTS, num_classes=19, ratio=8, cell=2)
    assert upsampler.score_channels == 19 * 16
    scores = torch.full((1, 19 * 16, 3, 4), 2.5)
    logits = upsampler(scores, (17, 25))
    torch.testing.assert_close(logits, torch.full((1, 19, 17, 25), 2.5))


@pytest.mark.parametrize(("ratio", "cell"), [(3, 1), (8, 3), (8, 0), (0, 1)])
def test_impossible_windows_are_refused(ratio: int, cell: int) -> None:
    with pytest.raises(AtrousError, match=f"upsampler.ratio={ratio} must be even and a multiple"):
        SubPixel(grid=Grid.POINTS, num_classes=2, ratio=ratio, cell=cell)
