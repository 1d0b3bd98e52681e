"""Masks of VOC's classes for COCO's images."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from atrous.atomic_file import atomic_file
from atrous.data.annotations import AnnotatedImage, draw, read_coco
from atrous.data.preparation.parallel import in_parallel
from atrous.data.sets.coco_voc import COCO_VOC, MASKS, NAMES_IN_COCO, PARTS_OF_SPLIT, find_coco
from atrous.errors import AtrousError

_FEWEST_PIXELS = 1000
_IDS = {NAMES_IN_COCO.get(name, name): index for index, name in enumerate(COCO_VOC.classes) if index}


class _Drawing(NamedTuple):
    image: AnnotatedImage
    target: Path


def draw_coco_voc(
    root: str | Path, split: str, *, year: int = 2017, workers: int | None = None, say: Callable[[str], None] = print
) -> None:
    """Draw the masks of a split that are not there yet, and write the list of its images.

    Images are those whose objects of VOC's classes have more than 1,000 pixels together, by the areas that the
    annotations name; pixels of two objects are void. So torchvision's reference does it.

    Args:
        root: Where COCO is; see ``CocoVOC``.
        split: "train" or "val".
        year: Of the release.
        workers: Processes; ``None`` for one on each core.
        say: Receives what is worth knowing.

    Raises:
        AtrousError: Images or annotations are missing, or an outline cannot be drawn.
    """
    for part in (f"{each}{year}" for each in PARTS_OF_SPLIT[split]):
        folder = find_coco(root, part)
        annotations = folder / "annotations" / f"instances_{part}.json"
        listed, masks, known_by = folder / MASKS / f"{part}.txt", folder / MASKS / part, folder / MASKS / f"{part}.json"
        if not annotations.is_file():
            if listed.is_file():
                continue  # of no use any more
            raise AtrousError(f"coco_voc: {annotations} is missing: unpack annotations_trainval{year}.zip in {folder}")
        source = {"annotations": _digest(annotations)}
        if known_by.is_file() and json.loads(known_by.read_text(encoding="utf-8")) != source:
            say(f"coco_voc: {annotations} has changed; its masks are drawn anew")
            listed.unlink(missing_ok=True)
            shutil.rmtree(masks, ignore_errors=True)
        if listed.is_file():
            say(f"coco_voc: the masks of {part} are drawn already")
            continue
        _write(known_by, json.dumps(source))
        images = [image for image in map(_with_our_classes, read_coco(annotations)[1]) if _area(image) > _FEWEST_PIXELS]
        drawings = [_Drawing(image, masks / f"{Path(image.file).stem}.png") for image in images]
        in_parallel(_draw, drawings, f"drawing masks of {part}", workers=workers)
        _write(listed, "".join(f"{Path(image.file).stem}\n" for image in images))


def _draw(drawing: _Drawing) -> None:
    if drawing.target.is_file():
        return
    try:
        mask = draw(drawing.image, _IDS, overlap="void")
    except AtrousError as error:
        raise AtrousError(f"coco_voc: annotations of {drawing.image.file}: {error}") from error
    picture = Image.fromarray(mask)
    picture.putpalette(COCO_VOC.png_palette())
    with atomic_file(drawing.target) as file:
        picture.save(file, format="PNG")


def _with_our_classes(image: AnnotatedImage) -> AnnotatedImage:
    return dataclasses.replace(image, outlines=tuple(outline for outline in image.outlines if outline.label in _IDS))


def _area(image: AnnotatedImage) -> float:
    return sum(outline.area or 0.0 for outline in image.outlines)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, text: str) -> None:
    with atomic_file(path) as file:
        file.write(text.encode())
