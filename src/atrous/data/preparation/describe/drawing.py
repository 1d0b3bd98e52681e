"""Masks of labels that tools wrote, drawn once."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from atrous.atomic_file import atomic_file
from atrous.data.annotations import AnnotatedImage, draw
from atrous.data.description import Pattern
from atrous.data.description.description import Split
from atrous.data.label_space import LabelSpace, voc_color_map
from atrous.data.preparation.describe.labels import LABELME_BACKGROUND, LABELME_VOID, Labels, Tool
from atrous.data.preparation.parallel import in_parallel
from atrous.data.sets.files import naming
from atrous.errors import AtrousError

DRAWN = "masks_from_"
"""How folders of drawn masks begin."""

_VOID = 255


class Drawn(NamedTuple):
    """Masks that were drawn.

    Attributes:
        images: Pattern of the images.
        masks: Pattern of the masks.
        label_space: The background, and the classes.
        splits: Lists of names, where the files say which images belong together.
    """

    images: Pattern
    masks: Pattern
    label_space: LabelSpace
    splits: dict[str, Split]


def draw_labels(root: Path, tool: Tool, labels: Labels, name: str, *, workers: int | None = None) -> Drawn:
    """Draw a mask for every image, into ``masks_from_<tool>``; later objects lie on earlier ones.

    Args:
        root: The folder of the images.
        tool: Who wrote the labels.
        labels: The labels.
        name: Of the label space.
        workers: Processes; ``None`` for one on each core.

    Raises:
        AtrousError: An outline cannot be drawn.
        OSError: A mask cannot be written.
    """
    folder = f"{DRAWN}{tool}"
    classes = ("background", *labels.classes)
    space = LabelSpace(name, classes, voc_color_map(len(classes)))
    before, suffix = _common(labels.images)
    pattern = Pattern(f"{before}{{name}}{suffix}")
    names = {path: str(pattern.name(path)) for path in labels.images}
    _require_one_each(names, root)
    ids = {**{each: number for number, each in enumerate(classes)}, LABELME_VOID: _VOID, LABELME_BACKGROUND: 0}
    palette = space.png_palette()
    drawing = functools.partial(_draw, ids=ids, palette=palette)
    targets = {path: root / folder / f"{names[path]}.png" for path in labels.images}
    items = [_Drawing(root / path, image, targets[path]) for path, image in labels.images.items()]
    in_parallel(drawing, items, "drawing masks", workers=workers)
    drawn = set(targets.values())
    for path in (root / folder).rglob("*.png"):  # of labels that are gone
        if path not in drawn:
            path.unlink()
    splits: dict[str, Split] = {}
    for split, paths in labels.splits.items():
        listed = f"{folder}/{split}.txt"
        with atomic_file(root / listed) as file:
            file.write("".join(f"{names[path]}\n" for path in paths).encode())
        splits[split] = (listed,)
    return Drawn(pattern, Pattern(f"{folder}/{{name}}.png"), space, splits)


class _Drawing(NamedTuple):
    path: Path
    image: AnnotatedImage
    target: Path


def _draw(drawing: _Drawing, *, ids: Mapping[str, int], palette: list[int]) -> None:
    with naming(drawing.path, "labels"):
        mask = draw(drawing.image, ids, void=_VOID)
    picture = Image.fromarray(mask)
    picture.putpalette(palette)
    with atomic_file(drawing.target) as file:
        picture.save(file, format="PNG")


def _common(paths: Mapping[str, object]) -> tuple[str, str]:
    """The folder that all paths begin with, and their suffix, or ``.*`` if they differ in it."""
    folders = [path.split("/")[:-1] for path in paths]
    common: list[str] = []
    for parts in zip(*folders, strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    suffixes = {path[path.rindex(".") :] for path in paths}
    return "".join(f"{part}/" for part in common), suffixes.pop() if len(suffixes) == 1 else ".*"


def _require_one_each(names: Mapping[str, str], root: Path) -> None:
    seen: dict[str, str] = {}
    for path, name in names.items():
        if name in seen:
            raise AtrousError(f"{root}: {seen[name]} and {path} would have the same mask; rename one of them")
        seen[name] = path
