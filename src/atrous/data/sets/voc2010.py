"""What the data sets on the images of VOC 2010 share: its folder, its splits, and a folder of annotations beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from atrous.data.sets.files import find_folder
from atrous.errors import AtrousError

SPLITS: Mapping[str, tuple[str, ...]] = {"train": ("train",), "val": ("val",), "trainval": ("train", "val")}


def find_voc2010(root: str | Path, *, of: str) -> Path:
    """The folder ``VOC2010``: ``root`` itself, or in it, or in its ``VOCdevkit``.

    Raises:
        AtrousError: It is in none of the three.
    """
    return find_folder(
        root,
        ("VOCdevkit/VOC2010", "VOC2010", ""),
        holds=("JPEGImages", "ImageSets"),
        name="VOC 2010",
        of=of,
        otherwise="unpack VOCtrainval_03-May-2010.tar there or point data.root to it",
    ).absolute()


def find_annotations(voc: Path, name: str, *, of: str, archive: str) -> Path:
    """A folder of annotations in ``VOC2010``, beside it, or beside its ``VOCdevkit``.

    Args:
        voc: The folder ``VOC2010``.
        name: What the folder is called.
        of: Name of the data set.
        archive: What it is unpacked from.

    Raises:
        AtrousError: It is in none of the three.
    """
    places = (voc, *voc.parents[:2])
    for place in places:
        if (place / name).is_dir():
            return place / name
    raise AtrousError(f"{of}: no folder {name} in {', '.join(map(str, places))}: unpack {archive} in one of them")
