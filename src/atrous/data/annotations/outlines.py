"""Outlines of objects, and drawing them into a mask of ids."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from atrous.errors import AtrousError

_MOST_PIXELS = 1 << 30
_FARTHEST = 1 << 17
"""Coordinates beyond it are a mistake; drawing takes time in proportion to the length of an outline."""


@dataclass(frozen=True)
class Outline:
    """One object of an image.

    Attributes:
        label: Name of its class.
        polygons: Corners x1, y1, x2, y2, ... of its parts, in pixels from the upper left corner of the image.
        runs: Instead of polygons, run lengths as COCO writes them: ``size`` and ``counts``, a list or a string.
        area: Its area in pixels, if the file says it.
    """

    label: str
    polygons: tuple[tuple[float, ...], ...] = ()
    runs: Mapping[str, Any] | None = None
    area: float | None = None


@dataclass(frozen=True)
class AnnotatedImage:
    """An image and what is on it.

    Attributes:
        file: Path of the image, as the annotations name it.
        size: Height and width in pixels.
        outlines: Its objects, in the order of the file.
    """

    file: str
    size: tuple[int, int]
    outlines: tuple[Outline, ...]


def draw(
    image: AnnotatedImage,
    ids: Mapping[str, int],
    *,
    background: int = 0,
    overlap: Literal["last", "void"] = "last",
    void: int = 255,
) -> NDArray[np.uint8]:
    """Draw the objects of an image into a mask, H×W.

    Pixels belong to an outline by the rules of COCO's own tools.

    Args:
        image: The image.
        ids: Id of every class by name; objects of other classes are not drawn.
        background: Id where there is no object.
        overlap: What two objects on one pixel give: the later in the file, or void.
        void: The id of void.

    Raises:
        AtrousError: An outline cannot be drawn; the message names the class, but no file.
    """
    mask = np.full(image.size, background, dtype=np.uint8)
    covered = np.zeros(image.size, dtype=bool)
    for outline in image.outlines:
        if outline.label not in ids:
            continue
        inside = _inside(outline, image.size)
        mask[inside] = ids[outline.label]
        if overlap == "void":
            mask[inside & covered] = void
            covered |= inside
    return mask


def _inside(outline: Outline, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels of an object, H×W."""
    height, width = size
    if outline.runs is not None:
        encoded = [_checked_runs(outline, size)]
    else:
        polygons = [_checked_polygon(polygon, outline.label) for polygon in outline.polygons]
        encoded = coco_mask.frPyObjects(polygons, height, width) if polygons else []
    if not encoded:
        return np.zeros(size, dtype=bool)
    return np.asarray(coco_mask.decode(coco_mask.merge(encoded)), dtype=bool)


def _checked_polygon(polygon: Sequence[float], label: str) -> list[float]:
    """A polygon that the C code can take: three corners, no infinite number; two corners would be taken for a box."""
    if len(polygon) % 2 or not all(math.isfinite(value) and abs(value) < _FARTHEST for value in polygon):
        raise AtrousError(f"an outline of {label!r} is no list of coordinates x, y of the image")
    if len(polygon) < 6:
        raise AtrousError(f"an outline of {label!r} has {len(polygon) // 2} corners; an area takes three")
    return [float(value) for value in polygon]


def _checked_runs(outline: Outline, size: tuple[int, int]) -> Mapping[str, Any]:
    """Run lengths that cover the image, which the C code does not check."""
    runs = dict(outline.runs or {})
    counts = runs.get("counts")
    wrong = AtrousError(
        f"the run lengths of a {outline.label!r} do not cover the {size[1]}x{size[0]} pixels of the image"
    )
    if list(runs.get("size", ())) != list(size):
        raise wrong
    if isinstance(counts, list):
        if not all(isinstance(count, int) and 0 <= count < _MOST_PIXELS for count in counts):
            raise wrong
        if sum(counts) != size[0] * size[1]:
            raise wrong
        encoded: Mapping[str, Any] = coco_mask.frPyObjects({"size": list(size), "counts": counts}, *size)
        return encoded
    if isinstance(counts, str) and counts.isascii() and sum(_lengths(counts)) == size[0] * size[1]:
        return {"size": list(size), "counts": counts.encode()}
    raise wrong


def _lengths(counts: str) -> list[int]:
    """Run lengths of one of COCO's compressed strings; none if it is no such string.

    A character holds five bits of a number, the lowest first, and the sixth says that more follow. From the fourth on,
    numbers are differences from the one two before.
    """
    lengths: list[int] = []
    value = shift = 0
    for character in counts:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            return []
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
        value = shift = 0
    return lengths if not shift and all(length >= 0 for length in lengths) else []
