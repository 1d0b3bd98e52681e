"""How many rows of an image are worked on at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from atrous.geometry import Size

_PART = {"cpu": 2**24}
_PART_ELSEWHERE = 2**27
"""Bytes of float32 numbers at a time: few enough to stay in a processor's outer cache, or enough to keep a GPU busy."""

_AT_LEAST = 8
"""Rows at a time: the score rows around a band are enlarged once for each."""


def bands_of(size: Size, numbers: int, device: torch.device) -> Iterator[slice]:
    """Cut an image into bands of rows.

    Args:
        size: Height and width.
        numbers: Numbers that are kept for each pixel: images × classes.
        device: Where they are kept.

    Yields:
        Ascending rows that cover the height.
    """
    height, width = size
    part = _PART.get(device.type, _PART_ELSEWHERE)
    count = max(_AT_LEAST, part // (4 * numbers * width))
    for first in range(0, height, count):
        yield slice(first, min(height, first + count))
