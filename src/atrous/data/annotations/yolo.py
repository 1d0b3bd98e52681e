"""YOLO's annotations of outlines: a text file for each image, a line for each object."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from atrous.data.annotations.coco import explained
from atrous.data.annotations.outlines import AnnotatedImage, Outline
from atrous.errors import AtrousError


def read_yolo(path: Path, names: Sequence[str], *, file: str, size: tuple[int, int]) -> AnnotatedImage:
    """Read the text file of one image: lines of a class number and corners x, y as shares of width and height.

    Args:
        path: The text file; an image without one has no objects.
        names: Class names in the order of their numbers.
        file: Path of the image.
        size: Its height and width, which the text file does not hold.

    Raises:
        AtrousError: The file cannot be read, a line is no outline, or a number belongs to no class.
    """
    if not path.is_file():
        return AnnotatedImage(file, size, ())
    with explained(path, "YOLO's outlines"):
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    outlines = [
        _outline(line, f"{path}, line {number}", names, size) for number, line in enumerate(lines, 1) if line.split()
    ]
    return AnnotatedImage(file, size, tuple(outlines))


def _outline(line: str, where: str, names: Sequence[str], size: tuple[int, int]) -> Outline:
    label, *corners = line.split()
    try:
        number, shares = int(label), [float(corner) for corner in corners]
    except ValueError as error:
        raise AtrousError(f"{where}: not a class number and coordinates ({error})") from error
    if not 0 <= number < len(names):
        raise AtrousError(f"{where}: there is no class {number} among the {len(names)} that are named")
    if len(shares) == 4:
        raise AtrousError(f"{where}: a box instead of an outline; masks need outlines (YOLO's format for segmentation)")
    height, width = size
    scale = (width, height)
    return Outline(names[number], (tuple(share * scale[index % 2] for index, share in enumerate(shares)),))
