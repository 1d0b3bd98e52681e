"""Unpacking archives: nothing leaves the folder, and a file is there whole or not at all."""

from __future__ import annotations

import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from atrous.atomic_file import atomic_file
from atrous.errors import AtrousError
from atrous.terminal import track

_UNREADABLE = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError),
    *(EOFError, ValueError),  # cut off, or with numbers that make no sense
    RuntimeError,  # with a password, or packed in a way that zipfile does not know
)


class _Member(NamedTuple):
    """A file in an archive."""

    name: str
    size: int
    content: Callable[[], IO[bytes]]


def unpack(archive: Path, folder: Path, *, wanted: Callable[[str], bool] | None = None) -> None:
    """Unpack a zip or tar archive; files that are there already, with the same size, are passed over.

    Only ordinary files are unpacked: links and devices are not.

    Args:
        archive: The file.
        folder: Where its paths begin.
        wanted: Whether to unpack a file, by its path in the archive; ``None`` for all.

    Raises:
        AtrousError: It cannot be read, a path leaves the folder, or the disk has no room for it.
        OSError: The disk cannot be written to.
    """
    with _members(archive) as members:
        chosen = [member for member in members if wanted is None or wanted(member.name)]
        places = [_place(member.name, folder, archive) for member in chosen]
        missing = [
            (member, place)
            for member, place in zip(chosen, places, strict=True)
            if not (place.is_file() and place.stat().st_size == member.size)
        ]
        _require_room(sum(member.size for member, _ in missing), folder, archive)
        for member, place in track(missing, f"unpacking {archive.name}", total=len(missing)):
            with _readable(archive), member.content() as content, atomic_file(place) as file:
                shutil.copyfileobj(content, file, 1 << 20)


def _place(name: str, folder: Path, archive: Path) -> Path:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or any(":" in part for part in path.parts[:1]):
        raise AtrousError(f"{archive}: it holds {name!r}, which lies outside of the folder that it is unpacked in")
    place = folder / path
    if not place.resolve().is_relative_to(folder.resolve()):
        raise AtrousError(f"{archive}: {name!r} would be written through a link that leaves {folder}")
    return place


def _require_room(size: int, folder: Path, archive: Path) -> None:
    existing = next(each for each in (folder, *folder.parents) if each.exists())
    free = shutil.disk_usage(existing).free
    if size > free:
        raise AtrousError(
            f"{archive}: unpacked it takes {size / 2**30:.1f} GiB, but {folder} has {free / 2**30:.1f} GiB left"
        )


@contextmanager
def _members(archive: Path) -> Iterator[list[_Member]]:
    """The ordinary files of an archive."""
    with _readable(archive):
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as packed:
                yield [
                    _Member(entry.filename, entry.file_size, _opener(packed, entry))
                    for entry in packed.infolist()
                    if not entry.is_dir()
                ]
        else:
            with tarfile.open(archive, "r:*", encoding="utf-8") as packed_tar:
                yield [
                    _Member(entry.name, entry.size, _tar_opener(packed_tar, entry))
                    for entry in packed_tar.getmembers()
                    if entry.isreg()
                ]


@contextmanager
def _readable(archive: Path) -> Iterator[None]:
    try:
        yield
    except AtrousError:
        raise
    except _UNREADABLE as error:
        if isinstance(error, OSError) and error.errno is not None and error.filename != str(archive):
            raise  # the disk, not the archive
        raise AtrousError(f"{archive}: the archive cannot be read ({error or type(error).__name__})") from error


def _opener(packed: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Callable[[], IO[bytes]]:
    return lambda: packed.open(entry)


def _tar_opener(packed: tarfile.TarFile, entry: tarfile.TarInfo) -> Callable[[], IO[bytes]]:
    def opened() -> IO[bytes]:
        content = packed.extractfile(entry)
        if content is None:
            raise tarfile.TarError(f"{entry.name} holds nothing")
        return content

    return opened
