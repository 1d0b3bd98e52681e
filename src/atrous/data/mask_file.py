"""Masks on disk: a prediction as PNG, in a data set's own ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from atrous.atomic_file import atomic_file
from atrous.data.label_space import IGNORE_COLOR, LabelSpace


def write_mask(
    path: Path, labels: NDArray[Any], label_space: LabelSpace, *, palette: bool = True, protocol: str | None = None
) -> None:
    """Write train ids as a PNG of the data set's own ids; the file appears whole or not at all.

    The PNG has one channel of 8 bits, or of 16 where an id is above 255.

    Args:
        path: The file; its folder is created if it is missing.
        labels: Train ids H×W.
        label_space: Translates them, and knows their colors.
        palette: Whether 8-bit ids come with colors.
        protocol: How the mask was made; a text of that name in the file says it.

    Raises:
        AtrousError: An id is no train id.
        OSError: The file cannot be written.
    """
    mask = Image.fromarray(label_space.decode(labels))
    if palette and mask.mode == "L":
        mask.putpalette(_raw_palette(label_space))
    texts = PngInfo()
    if protocol is not None:
        texts.add_itxt("protocol", protocol)
    with atomic_file(path) as file:
        mask.save(file, format="PNG", pnginfo=texts)


def _raw_palette(label_space: LabelSpace) -> list[int]:
    """768 numbers: the RGB of every raw id up to 255."""
    table = np.zeros((256, 3), dtype=np.uint8)
    colors = dict(zip(label_space.raw_ids, label_space.palette, strict=True))
    colors |= dict.fromkeys(label_space.ignored_raw_ids, IGNORE_COLOR)
    for raw_id, color in colors.items():
        if raw_id <= 255:
            table[raw_id] = color
    return [int(value) for value in table.flatten()]
