"""Panels show errors where they are, at any image size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from atrous.data.label_space import IGNORE_COLOR, LabelSpace
from atrous.errors import AtrousError
from atrous.reports import contact_sheet, panel

SPACE = LabelSpace("toy", ("sky", "sea"), ((10, 20, 250), (0, 90, 160)))
RED = (220, 38, 38)
HEIGHT, WIDTH = 24, 40  # drawn four times as large


def toy() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A gray image; the left half is sky, the right sea; one corner is ignored, another one wrong."""
    image = torch.full((3, HEIGHT, WIDTH), 200, dtype=torch.uint8)
    truth = torch.zeros(HEIGHT, WIDTH, dtype=torch.uint8)
    truth[:, WIDTH // 2 :] = 1
    truth[:6, :10] = 255
    prediction = truth.clamp(max=1)
    prediction[:6, :10] = 1
    prediction[18:, 30:] = 0
    return image, truth, prediction


def count(picture: np.ndarray, color: tuple[int, int, int]) -> int:
    return int((picture == np.array(color, dtype=np.uint8)).all(axis=2).sum())


def test_wrong_pixels_are_red_and_ignored_ones_are_not() -> None:
    picture = panel(*toy(), SPACE, "one")
    assert picture.dtype == np.uint8
    assert count(picture, RED) == 6 * 10 * 4**2
    # ignored: the corner in truth and error, and the inside of one legend swatch
    assert 2 * 6 * 10 * 4**2 < count(picture, IGNORE_COLOR) < 2 * 6 * 10 * 4**2 + 200


def test_perfect_prediction_has_no_red() -> None:
    image, truth, _ = toy()
    assert count(panel(image, truth, truth.clamp(max=1), SPACE, "one"), RED) == 0


def test_classes_that_do_not_occur_are_not_in_the_legend() -> None:
    image, truth, _ = toy()
    picture = panel(image, torch.zeros_like(truth), torch.zeros_like(truth), SPACE, "one")
    assert count(picture, SPACE.palette[1]) == 0


def test_everything_ignored_is_drawn_all_the_same() -> None:
    image, truth, prediction = toy()
    assert count(panel(image, torch.full_like(truth, 255), prediction, SPACE, "one"), RED) == 0


@pytest.mark.parametrize(("height", "width", "tile"), [(5, 7, 161), (300, 400, 400), (1024, 2048, 512)])
def test_tiles_have_a_readable_size(height: int, width: int, tile: int) -> None:
    image = np.zeros((3, height, width), dtype=np.uint8)
    ids = np.zeros((height, width), dtype=np.uint8)
    assert panel(image, ids, ids, SPACE, "one").shape[1] == 4 * tile + 5 * 6


def test_sizes_have_to_agree() -> None:
    image, truth, prediction = toy()
    with pytest.raises(AtrousError, match="one: image"):
        panel(image, truth, prediction[1:], SPACE, "one")


def test_contact_sheet_stacks_pictures_of_different_width() -> None:
    narrow, wide = np.zeros((3, 4, 3), dtype=np.uint8), np.zeros((2, 6, 3), dtype=np.uint8)
    sheet = contact_sheet([narrow, wide])
    assert sheet.shape == (5, 6, 3)
    assert (sheet[:3, 4:] == 255).all()
    with pytest.raises(AtrousError, match="at least one panel"):
        contact_sheet([])
