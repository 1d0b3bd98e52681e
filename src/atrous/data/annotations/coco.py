"""COCO's annotations: one JSON file with images, classes, and polygons or run lengths."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from atrous.data.annotations.outlines import AnnotatedImage, Outline
from atrous.errors import AtrousError


def read_coco(path: Path) -> tuple[tuple[str, ...], list[AnnotatedImage]]:
    """Read the classes, in the order of their ids, and the images of an annotation file, in its order.

    Raises:
        AtrousError: The file cannot be read, or is none of COCO's form; the sentence names it.
    """
    with explained(path, "COCO's annotations of objects"):
        content = json.loads(path.read_text(encoding="utf-8"))
        names = {int(each["id"]): str(each["name"]) for each in content["categories"]}
        objects: defaultdict[int, list[Outline]] = defaultdict(list)
        for each in content["annotations"]:
            if each.get("segmentation"):
                objects[int(each["image_id"])].append(_outline(each, names[int(each["category_id"])]))
        images = [
            AnnotatedImage(
                str(each["file_name"]), (int(each["height"]), int(each["width"])), tuple(objects[int(each["id"])])
            )
            for each in content["images"]
        ]
    return tuple(names[number] for number in sorted(names)), images


@contextmanager
def explained(path: Path, what: str) -> Iterator[None]:
    """Turn what reading a file of another form raises into one sentence."""
    try:
        yield
    except OSError as error:
        raise AtrousError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise AtrousError(f"{path}: cannot be read as {what}: it is no JSON in UTF-8") from error
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise AtrousError(f"{path}: cannot be read as {what}: {type(error).__name__} of {error}") from error


def _outline(annotation: Mapping[str, Any], label: str) -> Outline:
    segmentation, area = annotation["segmentation"], annotation.get("area")
    area = None if area is None else float(area)
    if isinstance(segmentation, Mapping):
        return Outline(label, runs=dict(segmentation), area=area)
    return Outline(label, tuple(tuple(map(float, polygon)) for polygon in segmentation), area=area)
