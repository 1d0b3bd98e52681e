"""Masks that hold colors: from color to train id."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from atrous.errors import AtrousError

Color = tuple[int, int, int]


class ColorCode:
    """The colors of a data set's masks.

    Args:
        classes: RGB of each class, in the order of train ids.
        void: Colors of pixels that belong to no class.
        ignore_index: Train id of void.

    Raises:
        AtrousError: A color occurs twice.
    """

    def __init__(self, classes: Sequence[Color], void: Sequence[Color] = (), *, ignore_index: int = 255) -> None:
        colors = [*classes, *void]
        twice = sorted({color for color in colors if colors.count(color) > 1})
        if twice:
            raise AtrousError(f"the color {to_hex(twice[0])} stands for two classes")
        self.classes = tuple(classes)
        self.void = tuple(void)
        self.ignore_index = ignore_index

    @cached_property
    def _train_id_of(self) -> NDArray[np.int16]:
        """Train id of every color, -1 for the unknown ones."""
        table = np.full(1 << 24, -1, dtype=np.int16)
        for color in self.void:
            table[_packed(np.array(color))] = self.ignore_index
        for train_id, color in enumerate(self.classes):
            table[_packed(np.array(color))] = train_id
        return table

    def encode(self, colored: NDArray[np.uint8], where: str) -> NDArray[np.uint8]:
        """Translate colors H×W×3 to train ids H×W.

        Args:
            colored: RGB.
            where: File name for the error message.

        Raises:
            AtrousError: A color belongs to no class.
        """
        packed = _packed(colored)
        ids = self._train_id_of[packed]
        if ids.min() >= 0:
            return ids.astype(np.uint8)
        wrong, counts = np.unique(packed[ids < 0], return_counts=True)
        most = [_hex(int(value)) for value in wrong[np.argsort(-counts, kind="stable")][:5]]
        more = f" and {len(wrong) - len(most)} more" if len(wrong) > len(most) else ""
        raise AtrousError(
            f"{where}: colors {', '.join(most)}{more} ({counts.sum():,} pixels) belong to no class and are not void"
        )


def to_hex(color: Sequence[int]) -> str:
    """A color as ``#rrggbb``."""
    return "#" + "".join(f"{value:02x}" for value in color)


def count_colors(colored: NDArray[np.uint8]) -> dict[Color, int]:
    """Pixels of every color of a picture H×W×3."""
    values, counts = np.unique(_packed(colored), return_counts=True)
    return {
        (int(value) >> 16, int(value) >> 8 & 255, int(value) & 255): int(count)
        for value, count in zip(values, counts, strict=True)
    }


def _packed(colors: NDArray[np.integer]) -> NDArray[np.int32]:
    wide = colors.astype(np.int32)
    packed: NDArray[np.int32] = wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
    return packed


def _hex(value: int) -> str:
    return f"#{value:06x}"
