from __future__ import annotations

import numpy as np
import pytest

from atrous.data.description import ColorCode
from atrous.data.description.color_code import count_colors
from atrous.errors import AtrousError

RED, GREEN, BLACK = (255, 0, 0), (0, 255, 1), (0, 0, 0)


def test_colors_to_ids_and_back() -> None:
    code = ColorCode([RED, GREEN], [BLACK])
    colored = np.array([[RED, GREEN, BLACK], [GREEN, GREEN, RED]], dtype=np.uint8)
    ids = code.encode(colored, "x.png")
    assert ids.dtype == np.uint8
    assert ids.tolist() == [[0, 1, 255], [1, 1, 0]]
    back = np.array([*code.classes, *[BLACK] * 254])[ids]
    assert (back == colored).all()


def test_255_classes_and_void_can_be_told_apart() -> None:
    code = ColorCode([(each, 0, 0) for each in range(255)], [(255, 0, 0)])
    assert code.encode(np.array([[[254, 0, 0], [255, 0, 0], [0, 0, 0]]], np.uint8), "x").tolist() == [[254, 255, 0]]


def test_other_colors_are_named_with_the_most_frequent_first() -> None:
    colored = np.array([[RED, (1, 2, 3), (9, 8, 7), (9, 8, 7)]], dtype=np.uint8)
    sentence = r"mask\.png: colors #090807, #010203 \(3 pixels\) belong to no class"
    with pytest.raises(AtrousError, match=sentence):
        ColorCode([RED, GREEN]).encode(colored, "mask.png")


def test_a_color_has_one_meaning() -> None:
    with pytest.raises(AtrousError, match="#ff0000 stands for two classes"):
        ColorCode([RED, GREEN], [RED])


def test_counting() -> None:
    colored = np.array([[RED, GREEN, RED]], dtype=np.uint8)
    assert count_colors(colored) == {RED: 2, GREEN: 1}
