"""Labels at the resolution of the scores, against a plain loop, and values between features."""

from __future__ import annotations

from fractions import Fraction
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from atrous.geometry import Grid, interpolate, pixels_of
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


def test_the_papers_sizes() -> None:
    """DeepLab's crops of 513 and 769 pixels have 33 and 49 features at output stride 16 and are not extended."""
    for pixels, features in ((513, 33), (769, 49)):
        assert Grid.POINTS.features(pixels, 16) == features
        assert Grid.POINTS.pixels(features, 16) == pixels
        assert Grid.POINTS.missing((pixels, pixels), 16) == (0, 0)
        assert Grid.POINTS.stride(pixels, features) == 16
    assert Grid.CELLS.features(224, 32) == 7
    assert Grid.CELLS.missing((224, 224), 32) == (0, 0)


@pytest.mark.parametrize("grid", list(Grid))
@pytest.mark.parametrize("stride", [1, 4, 16])
def test_an_extended_image_ends_with_its_last_feature(grid: Grid, stride: int) -> None:
    for pixels in range(1, 70):
        (missing, _) = grid.missing((pixels, 1), stride)
        features = grid.features(pixels, stride)
        assert 0 <= missing < stride
        assert grid.pixels(features, stride) == pixels + missing
        # the place of the last feature is inside the extended image, and one stride further is outside
        last = stride * (features - 1) + grid.place(stride)
        assert last < pixels + missing <= last + stride


@pytest.mark.parametrize("grid", list(Grid))
def test_scales_keep_whole_strides(grid: Grid) -> None:
    """v2's 0.75 and 0.5 of an image of whole strides of 32 pixels have whole strides of 8 again."""
    size = (grid.pixels(12, 32), grid.pixels(7, 32))
    for scale in (Fraction(3, 4), Fraction(1, 2)):
        scaled = grid.scaled(size, scale)
        assert grid.missing(scaled, 8) == (0, 0)
        assert [grid.features(extent, 8) for extent in scaled] == [
            int((grid.features(extent, 8) - grid.extra) * scale) + grid.extra for extent in size
        ]


@pytest.mark.parametrize("grid", list(Grid))
@pytest.mark.parametrize("side", [2, 8])
def test_windows_lie_around_or_after_their_features(grid: Grid, side: int) -> None:
    """A window that says its feature's number in every pixel, laid out and looked up pixel by pixel."""
    rows, columns, classes = 4, 5, 2
    number = torch.arange(rows * columns, dtype=torch.float32).view(1, 1, rows, columns)
    windows = torch.cat([number, number + 100], 1).repeat_interleave(side**2, 1)
    size = (grid.pixels(rows, side), grid.pixels(columns, side))
    image = grid.lay_out(windows, size, side=side)
    assert image.shape == (1, classes, *size)
    before = side // 2 if grid is Grid.POINTS else 0
    for i in range(size[0]):
        for j in range(size[1]):
            feature = (i + before) // side * columns + (j + before) // side
            assert image[0, :, i, j].tolist() == [feature, feature + 100]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (7, 40), (9, 300)])
def test_interpolation_is_numpys_along_both_sides(seed: int, shape: tuple[int, int]) -> None:
    """Places of every density, on features and between them, at the borders too, and steps that are not even."""
    rng = np.random.default_rng(seed)
    feature = torch.from_numpy(rng.normal(size=(2, 3, *shape)))
    counts = (int(rng.integers(1, 9)), int(rng.integers(1, 400)))
    places = [np.sort(rng.uniform(0, side - 1, count)) for side, count in zip(shape, counts, strict=True)]
    for side, each in zip(shape, places, strict=True):
        each[rng.random(len(each)) < 0.3] = rng.integers(0, side)
        each.sort()
        each[-1] = rng.choice([each[-1], side - 1])
    down, across = places
    wide = np.apply_along_axis(lambda row: np.interp(across, np.arange(shape[1]), row), 3, feature.numpy())
    wanted = np.apply_along_axis(lambda column: np.interp(down, np.arange(shape[0]), column), 2, wide)
    found = interpolate(feature, torch.from_numpy(down), torch.from_numpy(across))
    assert found.shape == wanted.shape
    assert np.allclose(found.numpy(), wanted, rtol=0, atol=1e-12)


def test_places_as_dense_as_features_but_between_them() -> None:
    feature = torch.arange(12.0).view(1, 1, 3, 4)
    found = interpolate(feature, 0.5 + pixels_of(2), 0.25 + pixels_of(3))
    assert torch.equal(found, torch.tensor([[2.25, 3.25, 4.25], [6.25, 7.25, 8.25]]).view(1, 1, 2, 3))


def test_places_on_features_in_a_row_are_the_features() -> None:
    feature = torch.randn(1, 2, 9, 200, generator=torch.Generator().manual_seed(0))
    found = interpolate(feature, 2 + pixels_of(5), 17 + pixels_of(150))
    assert torch.equal(found, feature[:, :, 2:7, 17:167])
