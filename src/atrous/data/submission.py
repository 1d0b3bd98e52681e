"""What the test servers of data sets take: where masks lie in an archive, and how they are stored."""

from __future__ import annotations

import gzip
import tarfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from atrous.atomic_file import atomic_file
from atrous.data.label_space import LabelSpace
from atrous.data.mask_file import write_mask
from atrous.data.sets.cityscapes import CITYSCAPES
from atrous.data.sets.voc import VOC_2012
from atrous.errors import AtrousError
from atrous.geometry import Size


@dataclass(frozen=True)
class ServerFormat:
    """The archive of masks that a test server takes.

    Attributes:
        label_space: The classes; masks hold the data set's own ids.
        member: Path of a mask in the archive, with ``{split}`` and ``{name}`` of the image.
        suffix: Kind of the archive: ``.tar.gz`` or ``.zip``.
        size: Height and width of all masks; ``None`` for those of the images.
        palette: Whether masks have the colors of the classes.
    """

    label_space: LabelSpace
    member: str
    suffix: str
    size: Size | None
    palette: bool

    def path(self, split: str, name: str) -> str:
        """Where the mask of an image lies in the archive."""
        return self.member.format(split=split, name=name)

    def require_sizes(self, sizes: Mapping[str, Size]) -> None:
        """Refuse images whose masks the server would refuse.

        Args:
            sizes: Height and width by name.

        Raises:
            AtrousError: An image has another size.
        """
        for name, size in sizes.items():
            if self.size is not None and tuple(size) != self.size:
                raise AtrousError(
                    f"the test server of {self.label_space.name} takes masks of {self.size[0]}×{self.size[1]} pixels, "
                    f"but {name} has {size[0]}×{size[1]}: use the images as they were published"
                )

    def write(self, folder: Path, split: str, name: str, labels: NDArray[Any], *, protocol: str | None = None) -> None:
        """Write the mask of one image below a folder, to be packed later.

        Args:
            folder: What stands for the archive.
            split: The split.
            name: The image.
            labels: Train ids H×W.
            protocol: How the mask was made.
        """
        path = folder / self.path(split, name)
        write_mask(path, labels, self.label_space, palette=self.palette, protocol=protocol)

    def pack(self, folder: Path, archive: Path, split: str, names: Sequence[str]) -> None:
        """Put the masks of a folder into an archive, in the order of the names; equal masks make equal archives.

        Raises:
            AtrousError: A mask is missing.
        """
        members = [self.path(split, name) for name in names]
        missing = [folder / member for member in members if not (folder / member).is_file()]
        if missing:
            raise AtrousError(f"{missing[0]} was not written, so {archive.name} would be incomplete")
        with atomic_file(archive) as file:
            if self.suffix == ".zip":
                with zipfile.ZipFile(file, "w") as packed:  # a PNG is compressed
                    for member in members:
                        packed.writestr(zipfile.ZipInfo(member), (folder / member).read_bytes())
                return
            with (
                gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as compressed,
                tarfile.open(fileobj=compressed, mode="w", encoding="utf-8") as packed_tar,
            ):
                for member in members:
                    entry = tarfile.TarInfo(member)
                    entry.size = (folder / member).stat().st_size
                    with (folder / member).open("rb") as mask:
                        packed_tar.addfile(entry, mask)

    def verify(self, archive: Path, split: str, sizes: Mapping[str, Size]) -> None:
        """Check an archive as the server would: names, sizes, and ids of all masks.

        Nothing is unpacked to the disk.

        Args:
            archive: The file.
            split: The split.
            sizes: Height and width of every image of the split, by name.

        Raises:
            AtrousError: The server would refuse it, or count masks as wrong; the sentence says what and how many.
        """
        wanted = {self.path(split, name): tuple(self.size or size) for name, size in sizes.items()}
        faults: list[str] = []
        with _members(archive, self.suffix) as members:
            found: dict[str, int] = {}
            for path, content in members:
                found[path] = found.get(path, 0) + 1
                if path in wanted and (fault := self._fault(content, wanted[path])):
                    faults.append(f"{path} {fault}")
        faults += [f"{path} is there {count} times" for path, count in found.items() if count > 1]
        faults += [f"{path} is missing" for path in wanted if path not in found]
        faults += [f"{path} belongs to no image of {split}" for path in found if path not in wanted]
        if faults:
            more = f" (and {len(faults) - 1} more faults)" if len(faults) > 1 else ""
            raise AtrousError(f"{archive} is no submission for {self.label_space.name}: {faults[0]}{more}")

    def _fault(self, content: bytes, size: Sequence[int]) -> str | None:
        """What is wrong with a mask."""
        try:
            with Image.open(BytesIO(content)) as mask:
                if mask.format != "PNG" or mask.mode not in ("P", "L"):
                    return f"is {mask.format} of mode {mask.mode}, not an 8-bit PNG of ids"
                ids = np.asarray(mask)
        except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
            return f"cannot be read ({error})"
        if ids.shape != tuple(size):
            return f"has {ids.shape[0]}×{ids.shape[1]} pixels instead of {size[0]}×{size[1]}"
        wrong = np.setdiff1d(ids, self.label_space.raw_ids)
        return f"has the ids {', '.join(map(str, wrong[:5]))}, which are no classes" if wrong.size else None


@contextmanager
def _members(archive: Path, suffix: str) -> Iterator[Iterator[tuple[str, bytes]]]:
    """Path and content of every file in an archive.

    Raises:
        AtrousError: It cannot be read.
    """
    try:
        if suffix == ".zip":
            with zipfile.ZipFile(archive) as packed:
                yield ((entry.filename, packed.read(entry)) for entry in packed.infolist() if not entry.is_dir())
        else:
            with tarfile.open(archive, "r:gz", encoding="utf-8") as packed_tar:
                yield ((entry.name, _content(packed_tar, entry)) for entry in packed_tar if not entry.isdir())
    except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise AtrousError(f"the archive {archive} cannot be read: {error}") from error


def _content(packed: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    """Content of a file; nothing for links and devices."""
    file = packed.extractfile(entry) if entry.isfile() else None
    return b"" if file is None else file.read()


_FORMATS = (
    ServerFormat(
        VOC_2012,
        member="results/VOC2012/Segmentation/comp6_{split}_cls/{name}.png",
        suffix=".tar.gz",
        size=None,
        palette=True,
    ),
    ServerFormat(CITYSCAPES, member="{name}_leftImg8bit.png", suffix=".zip", size=(1024, 2048), palette=False),
)
"""VOC: the development kit's folders for a method that was trained on more than VOC (comp6). Cityscapes: one file a
frame whose name begins with the frame's (cityscapesScripts, ``evalPixelLevelSemanticLabeling.py``)."""


def server_format(label_space: LabelSpace) -> ServerFormat:
    """What the test server of a data set takes.

    Raises:
        AtrousError: There is no server, or we do not know its format.
    """
    for known in _FORMATS:
        if known.label_space == label_space:
            return known
    names = ", ".join(known.label_space.name for known in _FORMATS)
    raise AtrousError(f"no test server is known for the classes of {label_space.name}: submissions are for {names}")
