"""What a search has found so far, on the disk after every image."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atrous.atomic_file import atomic_file
from atrous.errors import AtrousError

Key = tuple[float, ...]


class Ledger:
    """Confusion matrices of everything that is compared, and how many images each has seen.

    Args:
        path: The file; what it holds is taken up.
        about: Everything that decides the numbers, as plain values.
        classes: Number of classes.

    Raises:
        AtrousError: The file belongs to another search, or is damaged.
    """

    def __init__(self, path: Path, about: Mapping[str, Any], *, classes: int) -> None:
        self._path = path
        self._about = json.loads(json.dumps(about))
        self._classes = classes
        self._confusions: dict[Key, Tensor] = {}
        self._seen: dict[Key, int] = {}
        if path.is_file():
            self._read()

    def _read(self) -> None:
        try:
            with np.load(self._path, allow_pickle=False) as file:
                about = json.loads(str(file["about"]))
                keys = [tuple(key) for key in file["keys"].tolist()]
                confusions = torch.from_numpy(file["confusions"])
                seen = file["seen"].tolist()
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise AtrousError(f"{self._path} is damaged: remove it to begin again") from error
        if different := sorted(key for key in {*about, *self._about} if about.get(key) != self._about.get(key)):
            raise AtrousError(
                f"{self._path} is of a search with other settings ({', '.join(different)}): give the same, or leave "
                "resume out to begin a new one"
            )
        self._confusions = dict(zip(keys, confusions, strict=True))
        self._seen = dict(zip(keys, seen, strict=True))

    def counted(self) -> list[Key]:
        """What has been counted."""
        return list(self._seen)

    def seen(self, key: Key) -> int:
        """How many images a matrix has counted."""
        return self._seen.get(key, 0)

    def confusion(self, key: Key) -> Tensor:
        """Its counts C×C, int64."""
        return self._confusions.get(key, torch.zeros(self._classes, self._classes, dtype=torch.int64))

    def add(self, key: Key, counts: Tensor) -> None:
        """Count one more image."""
        self._confusions[key] = self.confusion(key) + counts
        self._seen[key] = self.seen(key) + 1

    def save(self) -> None:
        """Write everything, or nothing."""
        shape = (0, self._classes, self._classes)
        with atomic_file(self._path) as file:
            np.savez_compressed(
                file,
                about=np.array(json.dumps(self._about)),
                keys=np.array(list(self._confusions)),
                confusions=torch.stack(list(self._confusions.values())).numpy() if self._seen else np.zeros(shape),
                seen=np.array(list(self._seen.values())),
            )
