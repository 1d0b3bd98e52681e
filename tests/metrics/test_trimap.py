"""The band around ignored pixels against distances to each of them."""

from __future__ import annotations

import pytest
import torch

from atrous.errors import AtrousError
from atrous.metrics.trimap import within_trimap


@pytest.mark.parametrize("width", [1, 2, 5])
def test_pixels_near_a_void_one_keep_their_label(width: int) -> None:
    generator = torch.Generator().manual_seed(0)
    mask = torch.randint(0, 4, (2, 9, 13), generator=generator, dtype=torch.uint8)
    voids = [(0, 2, 3), (0, 8, 12), (1, 0, 6)]
    for image, row, column in voids:
        mask[image, row, column] = 255
    kept = within_trimap(mask, width)
    for image in range(2):
        for row in range(9):
            for column in range(13):
                near = any(i == image and max(abs(r - row), abs(c - column)) <= width for i, r, c in voids)
                expected = int(mask[image, row, column]) if near else 255
                assert int(kept[image, row, column]) == expected


def test_an_image_without_void_has_no_band() -> None:
    assert bool((within_trimap(torch.zeros(1, 5, 5, dtype=torch.long), 3) == 255).all())


def test_the_width_is_positive() -> None:
    with pytest.raises(AtrousError, match="trimap_width=0 must be 1 pixel or more"):
        within_trimap(torch.zeros(1, 5, 5, dtype=torch.long), 0)
