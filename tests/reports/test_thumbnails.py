"""Small pictures of images and masks."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atrous.data.label_space import LabelSpace
from atrous.errors import AtrousError
from atrous.reports import Thumbnail, read_thumbnail, small_image, small_mask, write_thumbnails

SPACE = LabelSpace("toy", ("sky", "sea"), ((10, 20, 250), (0, 90, 160)))


def test_masks_keep_their_colors_and_shrink_to_one_size_with_the_image() -> None:
    labels = np.zeros((300, 500), dtype=np.uint8)
    labels[:, 250:] = 1
    mask = Image.open(io.BytesIO(small_mask(labels, SPACE)))
    image = Image.open(io.BytesIO(small_image(np.full((300, 500, 3), 128, dtype=np.uint8))))
    assert mask.size == image.size == (192, 115)
    colors = {color for _, color in mask.convert("RGB").getcolors() or []}
    assert colors == set(SPACE.palette)
    assert mask.convert("RGB").getpixel((10, 10)) == SPACE.palette[0]


def test_small_pictures_do_not_grow() -> None:
    assert Image.open(io.BytesIO(small_image(np.zeros((7, 5, 3), dtype=np.uint8)))).size == (5, 7)


def test_there_and_back(tmp_path: Path) -> None:
    path = tmp_path / "thumbnails.zip"
    write_thumbnails(path, [(3, Thumbnail(b"a", b"b", b"c")), (7, Thumbnail(b"d", b"e", b"f"))])
    assert read_thumbnail(path, 7) == Thumbnail(b"d", b"e", b"f")
    assert read_thumbnail(path, 4) is None
    path.write_bytes(b"no archive")
    with pytest.raises(AtrousError, match="has no thumbnails"):
        read_thumbnail(path, 7)
