"""What the numbers in a mask mean: names, colors and the mapping between a data set's own ids and train ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from atrous.errors import AtrousError

IGNORE_COLOR = (224, 224, 192)
"""RGB of ignored pixels in colored masks: the border color of the VOC palette."""


def voc_color_map(num_colors: int) -> tuple[tuple[int, int, int], ...]:
    """RGB colors of the VOC devkit: bit i of an id becomes bit 7 - i//3 of channel i%3."""
    return tuple(
        (_spread_bits(label), _spread_bits(label >> 1), _spread_bits(label >> 2)) for label in range(num_colors)
    )


def _spread_bits(value: int) -> int:
    """Collect bits 0, 3 and 6 of ``value`` as bits 7, 6 and 5."""
    return sum((value >> (3 * place) & 1) << (7 - place) for place in range(3))


@dataclass(frozen=True)
class LabelSpace:
    """The classes of a data set, shared by data, metrics, panels, reports and predictions.

    Train ids are 0 .. num_classes-1 in the order of ``classes``; ``ignore_index`` marks pixels outside training and
    score.

    Args:
        name: Short name, e.g. "voc".
        classes: Class names in train-id order.
        palette: One RGB color (0..255) per class.
        raw_ids: Id of each class in the data set's own masks; empty means that they equal the train ids.
        ignored_raw_ids: Ids in the data set's own masks that mean void.
        ignore_index: Train id of void pixels.

    Raises:
        AtrousError: Lengths do not fit together, or an id occurs twice.
    """

    name: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    raw_ids: tuple[int, ...] = ()
    ignored_raw_ids: tuple[int, ...] = (255,)
    ignore_index: int = 255

    def __post_init__(self) -> None:
        """Fill in ``raw_ids`` and check that the parts agree."""
        if not self.raw_ids:
            object.__setattr__(self, "raw_ids", tuple(range(len(self.classes))))
        if not 1 <= len(self.classes) <= self.ignore_index <= 255:
            raise AtrousError(
                f"label space {self.name!r}: {len(self.classes)} classes with ignore index {self.ignore_index}; "
                "1 to 255 classes are possible and the ignore index must lie between the last class and 255"
            )
        for what, length in (("colors", len(self.palette)), ("raw ids", len(self.raw_ids))):
            if length != len(self.classes):
                raise AtrousError(f"label space {self.name!r}: {length} {what} for {len(self.classes)} classes")
        ids = self.raw_ids + self.ignored_raw_ids
        if len(set(ids)) != len(ids) or min(ids) < 0:
            raise AtrousError(f"label space {self.name!r}: raw ids must differ and be >= 0, got {ids}")

    @property
    def num_classes(self) -> int:
        """Number of classes, the void not counted."""
        return len(self.classes)

    @cached_property
    def _train_id_of(self) -> NDArray[np.int16]:
        """Train id of every raw id 0 .. max(255, largest known id), -1 where the raw id is unknown."""
        table = np.full(max(255, *self.raw_ids, *self.ignored_raw_ids) + 1, -1, dtype=np.int16)
        table[list(self.raw_ids)] = np.arange(self.num_classes)
        table[list(self.ignored_raw_ids)] = self.ignore_index
        return table

    @cached_property
    def _train_id_of_byte(self) -> tuple[NDArray[np.uint8], int] | None:
        """Train id of every byte, and what stands for unknown ones; ``None`` if no number is left for them."""
        spare = next((each for each in range(self.num_classes, 256) if each != self.ignore_index), None)
        if spare is None:
            return None
        table = self._train_id_of[:256]
        return np.where(table < 0, spare, table).astype(np.uint8), spare

    @cached_property
    def _color_of(self) -> NDArray[np.uint8]:
        """RGB of every train id: 256x3, black where the id has no meaning."""
        table = np.zeros((256, 3), dtype=np.uint8)
        table[: self.num_classes] = self.palette
        table[self.ignore_index] = IGNORE_COLOR
        return table

    def encode(self, raw: NDArray[Any], where: str) -> NDArray[np.uint8]:
        """Translate a data set's own mask to train ids.

        Args:
            raw: Integer array of any shape, not empty, with the data set's own ids.
            where: File name for the error message.

        Returns:
            uint8 array of the same shape; void is ``ignore_index``.

        Raises:
            AtrousError: The mask has ids that belong to no class and are not void.
        """
        if raw.dtype == np.uint8 and raw.ndim == 2 and (of_byte := self._train_id_of_byte) is not None:
            quickly = cv2.LUT(raw, of_byte[0])
            if not (quickly == of_byte[1]).any():
                return np.asarray(quickly, dtype=np.uint8)
        table = self._train_id_of
        if raw.dtype == np.uint8 or (raw.min() >= 0 and raw.max() < len(table)):
            encoded = table[raw]
            if encoded.min() >= 0:
                return np.asarray(encoded, dtype=np.uint8)
        known = set(self.raw_ids + self.ignored_raw_ids)
        wrong = [int(value) for value in np.unique(raw) if int(value) not in known]
        listed = ", ".join(map(str, wrong[:10])) + (", ..." if len(wrong) > 10 else "")
        raise AtrousError(
            f"{where}: label ids {listed} are outside the label space {self.name!r} (classes {_ranges(self.raw_ids)}, "
            f"void {_ranges(self.ignored_raw_ids)}); check that the mask belongs to this data set"
        )

    def decode(self, train: NDArray[Any]) -> NDArray[Any]:
        """Translate train ids back to the data set's own ids, as evaluation servers expect them.

        Args:
            train: Integer array of train ids; ``ignore_index`` becomes the first void id of the data set.

        Returns:
            Array of the same shape, uint8 where all raw ids fit and uint16 otherwise.

        Raises:
            AtrousError: An id is not a train id, or is void although the data set has no void id.
        """
        dtype = np.uint8 if max(self.raw_ids + self.ignored_raw_ids) <= 255 else np.uint16
        table = np.zeros(256, dtype=dtype)
        table[: self.num_classes] = self.raw_ids
        valid = list(range(self.num_classes))
        if self.ignored_raw_ids:
            table[self.ignore_index] = self.ignored_raw_ids[0]
            valid.append(self.ignore_index)
        wrong = np.setdiff1d(np.unique(train), valid)
        if wrong.size:
            raise AtrousError(
                f"{wrong[:10].tolist()} are no train ids of label space {self.name!r}, only {_ranges(tuple(valid))} are"
            )
        decoded: NDArray[Any] = table[train]
        return decoded

    def colorize(self, mask: NDArray[Any]) -> NDArray[np.uint8]:
        """Paint a mask of train ids.

        Args:
            mask: HxW integer array of train ids (0..255).

        Returns:
            HxWx3 uint8 RGB; void is ``IGNORE_COLOR``, ids without meaning are black.
        """
        colored: NDArray[np.uint8] = self._color_of[mask]
        return colored

    def png_palette(self) -> list[int]:
        """768 numbers for ``PIL.Image.Image.putpalette``, for masks that hold train ids."""
        return [int(value) for value in self._color_of.flatten()]

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, strings and numbers, for checkpoints and JSON."""
        return {
            "name": self.name,
            "classes": list(self.classes),
            "palette": [list(color) for color in self.palette],
            "raw_ids": list(self.raw_ids),
            "ignored_raw_ids": list(self.ignored_raw_ids),
            "ignore_index": self.ignore_index,
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> LabelSpace:
        """Inverse of ``to_dict``."""
        return cls(
            name=str(plain["name"]),
            classes=tuple(str(name) for name in plain["classes"]),
            palette=tuple((int(red), int(green), int(blue)) for red, green, blue in plain["palette"]),
            raw_ids=tuple(int(value) for value in plain["raw_ids"]),
            ignored_raw_ids=tuple(int(value) for value in plain["ignored_raw_ids"]),
            ignore_index=int(plain["ignore_index"]),
        )


def _ranges(ids: tuple[int, ...]) -> str:
    """Write ids as "0-20, 255"."""
    runs: list[list[int]] = []
    for value in sorted(ids):
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs) or "none"
