"""Labels at the resolution of the scores, against a plain loop."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from atrous.geometry import Grid
from atrous.losses import CrossEntropy
from atrous.models.backbones import VGG16
from atrous.models.heads.aspp_sum import ASPPSumHead
from atrous.models.multi_scale_segmentor import MultiScaleSegmentor

SIZES = [(321, 321), (33, 49), (32, 48), (30, 47), (17, 65), (1, 20), (1, 1), (8, 9)]


def labels(height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    mask = torch.randint(0, 21, (2, height, width), generator=generator, dtype=torch.uint8)
    mask[torch.rand(2, height, width, generator=generator) < 0.1] = 255
    return mask


def looked_up(mask: Tensor, size: tuple[int, int], stride: int, grid: Grid) -> Tensor:
    """The label of one pixel for each score, or 255 where that lies beyond the image."""
    wanted = torch.full((len(mask), *size), 255, dtype=mask.dtype)
    offset = 0 if grid is Grid.POINTS else stride // 2
    for image in range(len(mask)):
        for i in range(size[0]):
            for j in range(size[1]):
                row, column = stride * i + offset, stride * j + offset
                if row < mask.shape[1] and column < mask.shape[2]:
                    wanted[image, i, j] = mask[image, row, column]
    return wanted


@pytest.mark.parametrize("grid", list(Grid))
@pytest.mark.parametrize("stride", [1, 4, 8, 16])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_every_score_gets_the_label_of_its_pixel(grid: Grid, stride: int, height: int, width: int) -> None:
    """Images are extended to a multiple of 16 pixels, plus one on a grid of points."""
    extra = 1 if grid is Grid.POINTS else 0
    rows, columns = (-(-(pixels - extra) // 16) * 16 // stride + extra for pixels in (height, width))
    mask = labels(height, width)
    shrunk = grid.shrink_labels(mask, (rows, columns), extension=16)
    assert shrunk.dtype == mask.dtype
    assert torch.equal(shrunk, looked_up(mask, (rows, columns), stride, grid))


def test_the_papers_crop() -> None:
    """321 pixels, labels ÷8: every eighth of them (v1 §3.1)."""
    mask = labels(321, 321)
    assert torch.equal(Grid.POINTS.shrink_labels(mask, (41, 41), extension=8), mask[:, ::8, ::8])


def test_another_ignore_index_beyond_the_image() -> None:
    shrunk = Grid.POINTS.shrink_labels(torch.zeros(1, 10, 10, dtype=torch.long), (3, 3), extension=8, ignore_index=7)
    assert shrunk.tolist() == [[[0, 0, 7], [0, 0, 7], [7, 7, 7]]]


def test_labels_fit_the_scores_of_every_scale() -> None:
    """v2: ÷8 for the fused scores and those of scales 1 and 0.75 (interpolated), ÷16 for scale 0.5."""
    torch.manual_seed(0)
    network = MultiScaleSegmentor(
        backbone=VGG16(channels=(2, 2, 2, 2, 3)), head=partial(ASPPSumHead, rates=(2,)), num_classes=21
    )
    mask = labels(60, 90)
    scores = network(torch.zeros(2, 3, 60, 90), outputs="scores")
    assert isinstance(scores, dict)
    for name, stride in (("main", 8), ("scale_1", 8), ("scale_0.75", 8), ("scale_0.5", 16)):
        size = (scores[name].shape[-2], scores[name].shape[-1])
        assert size == (64 // stride + 1, 96 // stride + 1), name
        shrunk = Grid.POINTS.shrink_labels(mask, size, extension=network.extension)
        assert torch.equal(shrunk, looked_up(mask, size, stride, Grid.POINTS)), name
        assert bool(torch.isfinite(CrossEntropy()(scores[name], shrunk)))
