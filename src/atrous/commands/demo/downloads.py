"""Masks that visitors may download, for a while."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

from atrous.commands.demo.labeler import Labeled
from atrous.data.label_space import LabelSpace
from atrous.data.mask_file import write_mask

KEPT = 3600
"""Seconds that files of visitors stay on the disk."""


class Downloads:
    """Writes masks as predict does, and removes old ones.

    Args:
        folder: Where they are kept; it is created.
        space: Colors of the classes.
    """

    def __init__(self, folder: Path, space: LabelSpace) -> None:
        self._folder = folder
        self._space = space

    def add(self, labeled: Labeled, name: str) -> Path:
        """Write the mask at the photograph's own size, in a folder of its own: visitors get their file's name.

        Args:
            labeled: The photograph.
            name: Of the file, without its extension.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        for old in self._folder.iterdir():
            if time.time() - old.stat().st_mtime > KEPT:
                shutil.rmtree(old)
        path = Path(tempfile.mkdtemp(dir=self._folder), f"{name}.png")
        write_mask(path, labeled.mask(), self._space)
        return path
