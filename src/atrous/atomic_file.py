"""Files that are written completely or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_PARTIAL = ".partial"


@contextlib.contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
    """Write to a file beside the target, flush it to the disk, and rename it.

    Whenever the process dies, the target is the old file or the new one. No other process writes to the same name, so
    two processes cannot mix their output.

    Args:
        path: The target; its folder is created if it is missing.

    Raises:
        OSError: The disk is full or cannot be written to; the old file is still there.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.{os.getpid()}-{secrets.token_hex(4)}{_PARTIAL}")
    try:
        with partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def keep_as(path: str | Path, other: str | Path) -> None:
    """Give a file another name as well, in place of what had that name; it is there all the time.

    Raises:
        OSError: The disk is full or cannot be written to.
    """
    path, other = Path(path), Path(other)
    partial = other.with_name(f"{other.name}.{os.getpid()}-{secrets.token_hex(4)}{_PARTIAL}")
    try:
        try:
            partial.hardlink_to(path)
        except OSError:  # some file systems have no links
            shutil.copyfile(path, partial)
        os.replace(partial, other)
    finally:
        partial.unlink(missing_ok=True)


def remove_partial_files(folder: str | Path) -> None:
    """Remove what processes left behind in a folder, and in those within, when they were killed while writing."""
    for partial in Path(folder).rglob(f"*{_PARTIAL}"):
        partial.unlink(missing_ok=True)
