"""Masks for visitors: named after their photograph, and gone when they are old."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atrous.commands.demo.downloads import KEPT, Downloads
from atrous.commands.demo.labeler import Labeled
from atrous.data.label_space import LabelSpace

SPACE = LabelSpace("two", ("road", "tree"), ((10, 20, 30), (200, 100, 50)))


@pytest.fixture
def labeled() -> Labeled:
    """A photograph of 6×8 pixels that was shrunk by half."""
    labels = np.eye(3, 4, dtype=np.uint8)
    return Labeled(np.zeros((3, 4, 3), np.uint8), labels, labels, (6, 8), 0.1)


def test_a_mask_has_its_size_colors_and_name(labeled: Labeled, tmp_path: Path) -> None:
    downloads = Downloads(tmp_path / "masks", SPACE)
    paths = [downloads.add(labeled, "my photograph") for _ in range(2)]
    assert len(set(paths)) == 2
    for path in paths:
        assert path.name == "my photograph.png"
        with Image.open(path) as mask:
            np.testing.assert_array_equal(np.asarray(mask), labeled.labels.repeat(2, axis=0).repeat(2, axis=1))
            assert (mask.getpalette() or [])[3:6] == [200, 100, 50]


def test_old_ones_are_removed(labeled: Labeled, tmp_path: Path) -> None:
    downloads = Downloads(tmp_path, SPACE)
    old, recent = downloads.add(labeled, "old"), downloads.add(labeled, "recent")
    for path, age in ((old, KEPT + 10), (recent, KEPT - 10)):
        os.utime(path.parent, (time.time() - age,) * 2)
    new = downloads.add(labeled, "new")
    assert {path.name for path in tmp_path.rglob("*.png")} == {"recent.png", "new.png"}
    assert new.is_file()
