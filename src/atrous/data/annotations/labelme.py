"""Labelme's annotations: a JSON file beside each image, with polygons, rectangles and circles."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

from atrous.data.annotations.coco import explained
from atrous.data.annotations.outlines import AnnotatedImage, Outline
from atrous.errors import AtrousError

_CORNERS_OF_A_CIRCLE = 64


def read_labelme(path: Path) -> AnnotatedImage:
    """Read the file of one image; points and lines, which have no area, are passed over.

    Raises:
        AtrousError: The file cannot be read, or is none of Labelme's form; the sentence names it.
    """
    with explained(path, "Labelme's annotations of an image"):
        content = json.loads(path.read_text(encoding="utf-8"))
        shapes = [_outline(shape, path) for shape in content["shapes"]]
        size = int(content["imageHeight"]), int(content["imageWidth"])
        name = PureWindowsPath(str(content["imagePath"])).name  # written on Windows it has backslashes
    return AnnotatedImage(name, size, tuple(shape for shape in shapes if shape is not None))


def _outline(shape: Mapping[str, Any], path: Path) -> Outline | None:
    label, kind = str(shape["label"]), str(shape.get("shape_type") or "polygon")
    points = [(float(x), float(y)) for x, y in shape["points"]]
    if kind == "rectangle":
        (left, top), (right, bottom) = points[0], points[-1] if len(points) == 2 else points[2]
        points = [(left, top), (right, top), (right, bottom), (left, bottom)]
    elif kind == "circle":
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        turns = [2 * math.pi * corner / _CORNERS_OF_A_CIRCLE for corner in range(_CORNERS_OF_A_CIRCLE)]
        points = [(x + radius * math.cos(turn), y + radius * math.sin(turn)) for turn in turns]
    elif kind in ("point", "points", "line", "linestrip"):
        return None
    elif kind not in ("polygon", "oriented_rectangle"):
        raise AtrousError(
            f"{path}: a {label!r} has the shape {kind!r}; only polygons, rectangles and circles are drawn"
        )
    return Outline(label, (tuple(value for point in points for value in point),))
