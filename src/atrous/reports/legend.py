"""The legend of classes under a picture, and the look that all such pictures share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import ImageDraw, ImageFont

BACKGROUND = (255, 255, 255)
INK = (31, 41, 51)
QUIET = (97, 110, 124)
GAP = 6
LEGEND_LINE = 18
_SWATCH = 12

RGB = NDArray[np.uint8]
Font = ImageFont.ImageFont | ImageFont.FreeTypeFont
Entry = tuple[str, tuple[int, int, int]]


def legend_lines(entries: Sequence[Entry], width: int, font: Font) -> list[list[tuple[int, Entry]]]:
    """Break a legend into lines.

    Args:
        entries: Names and colors.
        width: Of the picture in pixels.
        font: Of the names.

    Returns:
        Lines of entries, each with its left edge.
    """
    lines: list[list[tuple[int, Entry]]] = [[]]
    left = GAP
    for entry in entries:
        needed = _SWATCH + 5 + round(font.getlength(entry[0])) + 14
        if lines[-1] and left + needed > width:
            lines.append([])
            left = GAP
        lines[-1].append((left, entry))
        left += needed
    return lines


def draw_legend(draw: ImageDraw.ImageDraw, lines: list[list[tuple[int, Entry]]], top: int, font: Font) -> None:
    """Draw the lines of a legend below each other, the first at ``top``."""
    for number, line in enumerate(lines):
        middle = top + number * LEGEND_LINE + LEGEND_LINE // 2
        for left, (name, color) in line:
            box = (left, middle - _SWATCH // 2, left + _SWATCH, middle + _SWATCH // 2)
            draw.rectangle(box, fill=color, outline=(190, 197, 205))
            draw.text((left + _SWATCH + 5, middle), name, fill=INK, font=font, anchor="lm")
