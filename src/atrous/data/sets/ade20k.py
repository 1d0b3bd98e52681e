"""ADE20K in the form of the scene parsing challenge: 150 classes, whose names the data set's own file gives."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np

from atrous.data.label_space import LabelSpace, voc_color_map
from atrous.data.sets.files import ImageMaskFiles, find_folder, parts_of_split
from atrous.data.sets.matlab import read_variable
from atrous.errors import AtrousError

_PARTS_OF_SPLIT = {"train": ("training",), "val": ("validation",), "trainval": ("training", "validation")}
_PUBLISHED = {"training": 20_210, "validation": 2_000}
_TABLES = ("objectInfo150.txt", "objectInfo150.csv")
_COLORS = "color150.mat"
_CLASSES = 150


class ADE20K(ImageMaskFiles):
    """ADE20K (``ADEChallengeData2016``): ``images/<part>/*.jpg`` and ``annotations/<part>/*.png``.

    Names are the first of each line in ``objectInfo150.txt`` or ``.csv``, and colors are those of the same file where
    it has a column of them, or of ``color150.mat`` beside it; without either, VOC's. Id 0, other objects, is void.

    Args:
        split: "train" (20,210 images), "val" (2,000) or "trainval" (both).
        root: The folder ``ADEChallengeData2016``, or one that holds it under this name or as ``ade20k``.

    Raises:
        AtrousError: Unknown split; folder, image or mask missing; the table of classes is missing or no such table.
    """

    def __init__(self, split: str, *, root: str | Path) -> None:
        parts = parts_of_split(split, _PARTS_OF_SPLIT, of="ade20k")
        folder = find_folder(
            root,
            ("ADEChallengeData2016", "ade20k", ""),
            holds=("images", "annotations"),
            name="ADE20K",
            of="ade20k",
            otherwise="unpack ADEChallengeData2016.zip there or point data.root to it",
        )
        images: list[Path] = []
        for part in parts:
            found = sorted((folder / "images" / part).glob("*.jpg"))
            if not found:
                raise AtrousError(f"ade20k: no image in {folder / 'images' / part}: unpack ADEChallengeData2016.zip")
            images += found
        super().__init__(
            read_label_space(folder),
            split,
            names=[image.stem for image in images],
            images=images,
            masks=[folder / "annotations" / image.parent.name / f"{image.stem}.png" for image in images],
            published=sum(_PUBLISHED[part] for part in parts),
        )


def read_label_space(folder: Path) -> LabelSpace:
    """The classes that ``objectInfo150`` lists, by id from 1.

    Raises:
        AtrousError: There is no such file, or it lists other than 150 classes.
    """
    tables = [folder / name for name in _TABLES if (folder / name).is_file()]
    if not tables:
        raise AtrousError(
            f"ade20k: no {' or '.join(_TABLES)} in {folder}, which names the classes; it comes with "
            "ADEChallengeData2016.zip"
        )
    try:
        rows = _rows(tables[0])
        ids = [int(row["Idx"]) for row in rows]
        names = [re.split(r"[;,]", row["Name"])[0].strip() for row in rows]
    except (KeyError, ValueError) as error:
        raise AtrousError(f"{tables[0]}: not a table of classes with the columns Idx and Name") from error
    if ids != list(range(1, _CLASSES + 1)) or not all(names):
        raise AtrousError(f"{tables[0]}: expected the classes 1 to {_CLASSES} in this order, each with a name")
    return LabelSpace(
        name="ade20k",
        classes=_distinct(names),
        palette=_colors(rows, folder),
        raw_ids=tuple(ids),
        ignored_raw_ids=(0,),
    )


def _rows(path: Path) -> list[dict[str, str]]:
    """Lines of a table with tabs or commas between its columns, by the words of its first line."""
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    separator = "\t" if lines and "\t" in lines[0] else ","
    rows = csv.DictReader(lines, delimiter=separator)
    return [{str(key).strip(): str(value or "").strip() for key, value in row.items()} for row in rows]


def _colors(rows: list[dict[str, str]], folder: Path) -> tuple[tuple[int, int, int], ...]:
    column = next((key for key in rows[0] if key.lower().startswith("color") and "(r" in key.lower()), None)
    if column is not None:
        found = [tuple(map(int, re.findall(r"\d+", row[column]))) for row in rows]
    elif (folder / _COLORS).is_file():
        found = [tuple(map(int, color)) for color in np.asarray(read_variable(folder / _COLORS, "colors"))]
    else:
        return voc_color_map(_CLASSES + 1)[1:]
    if len(found) != _CLASSES or any(len(color) != 3 or max(color) > 255 for color in found):
        raise AtrousError(f"{folder}: expected {_CLASSES} colors of red, green and blue for the classes")
    return tuple((red, green, blue) for red, green, blue in found)


def _distinct(names: list[str]) -> tuple[str, ...]:
    """Names, with the id of the class where several share one."""
    return tuple(name if names.count(name) == 1 else f"{name} {index}" for index, name in enumerate(names, start=1))
