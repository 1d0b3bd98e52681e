"""Small pictures of images, their truth and what a network made of them, in one file."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atrous.atomic_file import atomic_file
from atrous.data.label_space import LabelSpace
from atrous.errors import AtrousError

_LONGER_SIDE = 192


class Thumbnail(NamedTuple):
    """One picture in three forms, each the bytes of a file.

    Attributes:
        input: WebP.
        truth: PNG with the colors of the classes.
        prediction: The same.
    """

    input: bytes
    truth: bytes
    prediction: bytes


def small_image(image: NDArray[np.uint8]) -> bytes:
    """Shrink RGB H×W×3 to a WebP."""
    picture = Image.fromarray(image)
    held = io.BytesIO()
    picture.resize(_size(picture), Image.Resampling.BOX).save(held, "WEBP", quality=75)
    return held.getvalue()


def small_mask(labels: NDArray[np.uint8], label_space: LabelSpace) -> bytes:
    """Shrink train ids H×W to a PNG in the colors of the classes."""
    mask = Image.fromarray(np.ascontiguousarray(labels))
    mask = mask.resize(_size(mask), Image.Resampling.NEAREST)
    mask.putpalette(label_space.png_palette())
    held = io.BytesIO()
    mask.save(held, "PNG")
    return held.getvalue()


def write_thumbnails(path: str | Path, thumbnails: Iterable[tuple[int, Thumbnail]]) -> None:
    """Write the thumbnails of images, each with its place in the data set's list, into one zip file."""
    with atomic_file(path) as file, zipfile.ZipFile(file, "w") as archive:  # stored: they are compressed
        for index, thumbnail in thumbnails:
            for name, content in thumbnail._asdict().items():
                archive.writestr(f"{index:06d}/{name}", content)


def read_thumbnail(path: str | Path, index: int) -> Thumbnail | None:
    """The thumbnail of an image; ``None`` if it has none.

    Raises:
        AtrousError: The file is no zip file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return Thumbnail(*(archive.read(f"{index:06d}/{name}") for name in Thumbnail._fields))
    except KeyError:
        return None
    except zipfile.BadZipFile as error:
        raise AtrousError(f"{path} has no thumbnails: {error}") from error


def _size(image: Image.Image) -> tuple[int, int]:
    scale = min(1.0, _LONGER_SIDE / max(image.size))
    return max(1, round(image.width * scale)), max(1, round(image.height * scale))
