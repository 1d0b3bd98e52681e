"""The piece of a page with a labeled photograph: what is in it is what was found."""

from __future__ import annotations

import base64
import html
import json
import re
from io import BytesIO

import numpy as np
from PIL import Image

from atrous.commands.demo.labeler import Labeled
from atrous.commands.demo.view import view_of
from atrous.data.label_space import LabelSpace

SPACE = LabelSpace("two", ('road "wide"', "<tree>"), ((10, 20, 30), (200, 100, 50)))


def view() -> tuple[str, Labeled]:
    labels = np.zeros((20, 40), np.uint8)
    labels[:, 30:] = 1
    confidence = np.arange(800, dtype=np.uint16).reshape(20, 40) % 101
    photograph = np.full((20, 40, 3), 90, np.uint8)
    labeled = Labeled(photograph, labels, confidence.astype(np.uint8), (20, 40), 0.5)
    return view_of(labeled, SPACE, "20×40 <pixels>"), labeled


def pictures(text: str) -> list[np.ndarray]:
    found = re.findall(r'src="data:image/\w+;base64,([^"]+)"', text)
    return [np.asarray(Image.open(BytesIO(base64.b64decode(each)))) for each in found]


def test_pictures_hold_photograph_colors_and_numbers() -> None:
    text, labeled = view()
    photograph, mask, numbers = pictures(text)
    assert np.abs(photograph.astype(int) - 90).max() <= 2
    np.testing.assert_array_equal(mask, SPACE.colorize(labeled.labels))
    np.testing.assert_array_equal(numbers[..., 0], labeled.labels)
    np.testing.assert_array_equal(numbers[..., 1], labeled.confidence)


def test_names_are_text_and_nothing_else() -> None:
    text, _ = view()
    assert "<tree>" not in text
    assert "<pixels>" not in text
    found = re.search(r'data-classes="([^"]*)"', text)
    assert found is not None
    assert json.loads(html.unescape(found[1])) == ['road "wide"', "<tree>"]


def test_the_legend_has_shares_with_the_largest_first() -> None:
    text, _ = view()
    assert [html.unescape(each) for each in re.findall(r"</i>([^<]*)</li>", text)] == [
        'road "wide" 75.0 %',
        "<tree> 25.0 %",
    ]


def test_nothing_comes_from_elsewhere() -> None:
    assert "http" not in view()[0]
