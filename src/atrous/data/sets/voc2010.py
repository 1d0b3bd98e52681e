"""What the data sets on the images of VOC 2010 share: its folder, its lists, and annotations in MATLAB files."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from atrous.errors import AtrousError

_PARTS_OF_SPLIT = {"train": ("train",), "val": ("val",), "trainval": ("train", "val")}


def parts_of_split(split: str, *, of: str) -> tuple[str, ...]:
    """The lists that make up a split of the data set ``of``.

    Raises:
        AtrousError: The split is not train, val or trainval.
    """
    if split not in _PARTS_OF_SPLIT:
        raise AtrousError(f"{of}: unknown split {split!r}; choose one of {', '.join(_PARTS_OF_SPLIT)}")
    return _PARTS_OF_SPLIT[split]


def find_voc2010(root: Path, *, of: str) -> Path:
    """The folder ``VOC2010``: ``root`` itself, or in it, or in its ``VOCdevkit``.

    Raises:
        AtrousError: It is in none of the three.
    """
    for folder in (root / "VOCdevkit" / "VOC2010", root / "VOC2010", root):
        if (folder / "JPEGImages").is_dir() and (folder / "ImageSets").is_dir():
            return folder.absolute()
    raise AtrousError(
        f"{of}: no VOC 2010 in {root.absolute()}; expected JPEGImages and ImageSets there, in VOC2010 or in "
        "VOCdevkit/VOC2010: unpack VOCtrainval_03-May-2010.tar there or point data.root to it"
    )


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


def read_variable(path: Path, variable: str) -> NDArray[Any]:
    """Read one variable of a MATLAB file.

    Raises:
        AtrousError: The file cannot be read, or has no such variable; the sentence names it.
    """
    try:
        with path.open("rb") as file:
            variables = loadmat(file, variable_names=[variable])
    except FileNotFoundError as error:
        raise AtrousError(f"{path}: no such annotation; complete the copy of the data set") from error
    # what scipy raises on files that are cut off, of another kind, or of a format it does not know
    except (OSError, ValueError, TypeError, IndexError, NotImplementedError, MatReadError, zlib.error) as error:
        raise AtrousError(f"{path}: annotation cannot be read ({error}); replace the file") from error
    if variable not in variables:
        raise AtrousError(f"{path}: the file holds no variable {variable}, so it is no annotation of this data set")
    return np.asarray(variables[variable])
