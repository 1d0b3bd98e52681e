"""Data sets stored in files: finding their folders and lists, reading images and masks, and pairs of the two."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from atrous.data.dataset import RawSample, SegmentationDataset
from atrous.data.decoding import decode_ids, decode_image, image_size
from atrous.data.label_space import LabelSpace
from atrous.data.problems import note, report
from atrous.errors import AtrousError


def parts_of_split(split: str, parts: Mapping[str, tuple[str, ...]], *, of: str) -> tuple[str, ...]:
    """The lists or folders that make up a split.

    Args:
        split: Its name.
        parts: Those of every split.
        of: Name of the data set.

    Raises:
        AtrousError: There is no such split.
    """
    if split not in parts:
        raise AtrousError(f"{of}: unknown split {split!r}; choose one of {', '.join(parts)}")
    return parts[split]


def find_folder(
    root: str | Path, places: Sequence[str], *, holds: Sequence[str], name: str, of: str, otherwise: str
) -> Path:
    """The first of some folders that holds everything a data set needs.

    Args:
        root: Where the user says the data set is.
        places: Candidate folders in it, in order; empty for itself.
        holds: Folders that the right one must contain.
        name: What is looked for, for the message.
        of: Name of the data set.
        otherwise: What to do where there is none.

    Raises:
        AtrousError: There is none.
    """
    for folder in (Path(root, place) for place in places):
        if all((folder / part).is_dir() for part in holds):
            return folder
    where = " or ".join(["there", *(f"in {place}" for place in places if place)])
    raise AtrousError(
        f"{of}: no {name} in {Path(root).absolute()}; expected {' and '.join(holds)} {where}: {otherwise}"
    )


def read_list(path: Path, *, of: str) -> list[str]:
    """Read the first column of a text file in UTF-8, with or without a byte-order mark; empty lines do not count.

    Args:
        path: The file.
        of: Name of the data set.

    Raises:
        AtrousError: The file is missing, empty, or no text in UTF-8; the sentence names it.
    """
    if not path.is_file():
        raise AtrousError(
            f"{of}: the list {path} does not exist; complete the copy of the data set or choose another split"
        )
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise AtrousError(f"{of}: the list {path} is not text in UTF-8 ({error.reason}); save it as such") from error
    names = [line.split()[0] for line in lines if line.strip()]
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            note(f"{path}: line {number} is empty")
    if not names:
        raise AtrousError(f"{of}: the list {path} is empty")
    return names


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read an image as uint8 HxWx3 RGB, pixels as stored: an orientation tag is not applied, since masks have none.

    Raises:
        AtrousError: The file cannot be read or decoded; the sentence names it.
    """
    with naming(path, "image"):
        return decode_image(path.read_bytes())


def read_mask(path: Path) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Read the ids in a palette or grayscale PNG as HxW.

    Raises:
        AtrousError: The file cannot be read, or its pixels are colors rather than ids; the sentence names it.
    """
    with naming(path, "mask"):
        return decode_ids(path.read_bytes())


@contextlib.contextmanager
def naming(path: Path, what: str) -> Iterator[None]:
    """Put a file's name before what goes wrong with it.

    Args:
        path: The file.
        what: "image" or "mask".

    Raises:
        AtrousError: In place of the error that is raised within.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise AtrousError(f"{path}: no such {what}") from error
    except OSError as error:
        raise AtrousError(f"{path}: {what} cannot be read ({error.strerror or error}); replace the file") from error
    except AtrousError as error:
        raise AtrousError(f"{path}: {what} cannot be read: {error}") from error


class ImageMaskFiles(SegmentationDataset):
    """Samples that are pairs of files; reads them and checks that they belong together.

    Args:
        label_space: Translates the ids in the mask files to train ids.
        split: Which part of the data set this is.
        names: Identifies each sample.
        images: Image file of each sample.
        masks: Mask file of each sample; ``None`` where nobody has the truth.
        published: Samples of the split as the data set was published; ``None`` where there is no such number.

    Raises:
        AtrousError: There is no sample, or a file is missing.
    """

    def __init__(
        self,
        label_space: LabelSpace,
        split: str,
        *,
        names: list[str],
        images: list[Path],
        masks: list[Path] | None,
        published: int | None = None,
    ) -> None:
        if not names:
            raise AtrousError(f"{label_space.name}: split {split!r} lists no sample")
        self.label_space = label_space
        self.split = split
        self.names = names
        self.images = images
        self.masks = masks or []
        self.labeled = masks is not None
        self.published = published
        _require_files(images, "image", of=f"{label_space.name} {split}")
        _require_files(self.masks, "mask", of=f"{label_space.name} {split}")

    def __getitem__(self, index: int) -> RawSample:
        """Read one pair.

        Raises:
            AtrousError: A file cannot be read, image and mask differ in size, or ids are outside the label space.
        """
        image, mask = self.image(index), self.mask(index)
        if image.shape[:2] != mask.shape:
            raise AtrousError(
                f"{self.images[index]} is {image.shape[1]}x{image.shape[0]} pixels but its mask {self.masks[index]} is "
                f"{mask.shape[1]}x{mask.shape[0]}; image and mask must have the same size"
            )
        return RawSample(image, mask, self.names[index])

    def image(self, index: int) -> NDArray[np.uint8]:
        """Read one image without its mask, uint8 HxWx3 RGB.

        Raises:
            AtrousError: The file cannot be read.
        """
        return read_image(self.images[index])

    def mask(self, index: int) -> NDArray[np.uint8]:
        """Read one mask without its image; all of it is ignored where nobody has the truth.

        Raises:
            AtrousError: The file cannot be read, or holds ids outside the label space.
        """
        if not self.labeled:
            return np.full(self.image_size(index), self.label_space.ignore_index, dtype=np.uint8)
        path = self.masks[index]
        return self.label_space.encode(read_mask(path), str(path))

    def image_size(self, index: int) -> tuple[int, int]:
        """Height and width as the image's file says, without decoding it.

        Raises:
            AtrousError: The file cannot be read; the sentence names it.
        """
        with naming(self.images[index], "image"):
            return image_size(self.images[index])

    def fingerprint(self, *, images: bool = False) -> str:
        """Label space, split, and path, size and modification time of every file; none is read."""
        paths = [*self.masks, *self.images] if images else self.masks
        files = [(str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
        return hashlib.sha256(repr((self.label_space, self.split, files)).encode()).hexdigest()


def _require_files(paths: Sequence[Path], what: str, *, of: str) -> None:
    """Check that all files exist, listing each folder once instead of asking for each file."""
    present = {folder: set(os.listdir(folder)) for folder in {path.parent for path in paths} if folder.is_dir()}
    missing = [path for path in paths if path.name not in present.get(path.parent, ())]
    problems = [f"{path}: {what} file of {of} is missing" for path in missing]
    if problems:
        more = f" (and {len(missing) - 1} more of {len(paths)})" if len(missing) > 1 else ""
        report(problems, otherwise=f"{problems[0]}{more}; complete the copy of the data set")
