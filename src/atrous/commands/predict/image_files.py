"""The images that a user names: which files they are, what their results are called, and their pixels."""

from __future__ import annotations

import glob
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from atrous.data.decoding import SUFFIXES, decode_image
from atrous.errors import AtrousError


@dataclass(frozen=True)
class ImageFile:
    """An image to predict.

    Attributes:
        path: The file.
        name: What its results are called: folders below the input folder and the file's name without suffix.
    """

    path: Path
    name: Path


class FoundImages(NamedTuple):
    """What a path or pattern matches.

    Attributes:
        images: The images, sorted by path.
        passed_over: What else there is and is not predicted, sorted: other files, links to nothing, matched folders.
    """

    images: list[ImageFile]
    passed_over: list[Path]


def find_images(given: str, *, output: Path) -> FoundImages:
    """Find the images that a path or pattern matches.

    A folder is searched with its sub-folders. Hidden files, and files in an output folder inside the input folder, are
    left out. Images that differ only in the suffix keep it in their names, so that none overwrites the results of
    another: ``a.jpg`` and ``a.png`` become ``a.jpg`` and ``a.png``, not ``a`` twice.

    Args:
        given: An image, a folder, or a glob pattern (``**`` stands for any number of folders).
        output: Folder that the results go to.

    Raises:
        AtrousError: There is no image, or results would lie among the images.
    """
    path = Path(given).expanduser()
    if path.is_file():
        if path.suffix.lower() not in SUFFIXES:
            _refuse(given, "is not an image by its suffix")
        return FoundImages([ImageFile(path, Path(path.stem))], [])
    if path.is_dir():
        root, files = path, _walk(path)
    elif glob.has_magic(str(path)):
        root, files = _fixed_part(path), map(Path, glob.iglob(str(path), recursive=True))
    else:
        _refuse(given, "does not exist")
    if output.resolve() == root.resolve():
        raise AtrousError(f"output={output} is the folder of the images: give another one, such as {output / 'labels'}")
    inside = output.resolve() if output.resolve().is_relative_to(root.resolve()) else None
    shown = sorted(
        file
        for file in files
        if not file.name.startswith(".") and not (inside and file.resolve().is_relative_to(inside))
    )
    images = [file for file in shown if file.suffix.lower() in SUFFIXES and file.is_file()]
    if not images:
        _refuse(given, "holds no image" if path.is_dir() else "matches no image")
    names = _distinct_names(file.relative_to(root) for file in images)
    found = [ImageFile(file, name) for file, name in zip(images, names, strict=True)]
    wanted = set(images)
    return FoundImages(found, [file for file in shown if file not in wanted])


def read_rgb(path: Path, *, upright: bool = False) -> NDArray[np.uint8]:
    """Read an image as uint8 H×W×3 RGB; see ``decode_image``.

    Raises:
        AtrousError: The file cannot be read or decoded; the message says why but does not name the file.
    """
    try:
        return decode_image(path.read_bytes(), upright=upright)
    except FileNotFoundError:
        raise AtrousError("the file is gone") from None
    except OSError as error:
        raise AtrousError(f"cannot be read ({error.strerror or error})") from error


def _walk(folder: Path) -> Iterator[Path]:
    """All files below a folder, following links to folders, each folder once; and folders with names of pictures."""

    def unlisted(error: OSError) -> None:
        raise AtrousError(f"the folder {error.filename} cannot be listed: {error.strerror}") from error

    seen: set[str] = set()
    for place, folders, files in os.walk(folder, onerror=unlisted, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place, name) for name in (*files, *filter(_is_picture, folders)))


def _is_picture(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _fixed_part(pattern: Path) -> Path:
    """The folder above the first part of a pattern that has wildcards."""
    fixed = Path()
    for part in pattern.parts[:-1]:
        if glob.has_magic(part):
            break
        fixed /= part
    return fixed


def _distinct_names(files: Iterable[Path]) -> list[Path]:
    """Names without suffix where that is enough to tell files apart, also where upper and lower case are the same."""
    files = list(files)
    whole: set[Path] = set()
    while True:
        names = [file if file in whole else file.with_suffix("") for file in files]
        same: defaultdict[str, list[Path]] = defaultdict(list)
        for file, name in zip(files, names, strict=True):
            same[str(name).casefold()].append(file)
        clashing = {file for group in same.values() if len(group) > 1 for file in group} - whole
        if not clashing:
            return names
        whole |= clashing


def _refuse(given: str, reason: str) -> NoReturn:
    raise AtrousError(
        f"input={given} {reason}: give an image, a folder or a glob pattern in quotes; accepted are "
        f"{', '.join(SUFFIXES)}"
    )
