"""Patterns of file names, such as ``images/{name}.jpg``, and the pictures below a folder."""

from __future__ import annotations

import os
import re
from pathlib import Path

from atrous.data.decoding import SUFFIXES
from atrous.data.problems import report
from atrous.errors import AtrousError

_PLACES = {"{name}": r"(?P<name>.+)", "{folder}": r"(?P<folder>[^/]+)", "*": r"[^/]*"}
_PLACE = re.compile(r"(\{name\}|\{folder\}|\*)")
_ANY_SUFFIX = ".*"


class Pattern:
    """Files that belong to samples, by their paths.

    ``{name}`` is the name of a sample, which may hold folders; ``{folder}`` is one folder, which becomes the first part
    of the name; ``*`` is any part of a path without a slash, and ``.*`` at the end any suffix of a picture. A folder
    alone stands for all pictures in it.

    Args:
        text: Such as ``images/{name}.jpg`` or ``{folder}/masks/{name}_mask.png``, with slashes on every system.
        key: Name of the value, for messages.

    Raises:
        AtrousError: It has no ``{name}``, has a placeholder twice or an unknown one, or leaves the folder.
    """

    def __init__(self, text: str, *, key: str = "images") -> None:
        plain = text.strip().replace("\\", "/").removeprefix("./")
        if "{" not in plain and "*" not in plain:
            plain = "/".join(part for part in (plain.strip("/"), "{name}" + _ANY_SUFFIX) if part not in ("", "."))
        places = _PLACE.findall(plain)
        if places.count("{name}") != 1 or places.count("{folder}") > 1 or "{" in _PLACE.sub("", plain):
            raise AtrousError(
                f"{key}: {text!r} is no pattern of files: it needs {{name}} once, as in images/{{name}}.jpg, and may "
                "have {folder} and *"
            )
        if plain.startswith("/") or ".." in plain.split("/") or ":" in plain.split("/")[0]:
            raise AtrousError(f"{key}: {text!r} leaves the folder; give a path inside it")
        self.text = plain
        self.literal_length = len(_PLACE.sub("", plain))
        body = plain.removesuffix(_ANY_SUFFIX)
        end = "(?:" + "|".join(map(re.escape, SUFFIXES)) + ")" if body != plain else ""
        self._any_suffix = body != plain
        parts = [_PLACES.get(part, re.escape(part)) for part in _PLACE.split(body)]
        self._expression = re.compile("".join(parts) + f"(?i:{end})")

    def name(self, path: str) -> str | None:
        """The sample that a file belongs to; ``None`` for other files."""
        found = self._expression.fullmatch(path)
        if found is None:
            return None
        parts = found.groupdict()
        return "/".join(part for part in (parts.get("folder"), parts["name"]) if part)

    def __repr__(self) -> str:
        return self.text


def picture_files(root: Path) -> list[str]:
    """Paths of all pictures below a folder, sorted, with slashes; links to folders are followed.

    Hidden files and folders are passed over, and so is what macOS adds to archives.

    Raises:
        AtrousError: A folder has the name of a picture.
    """
    found: list[str] = []
    seen: set[tuple[int, int]] = set()

    def look(folder: Path, before: str) -> None:
        state = folder.stat()
        if (state.st_dev, state.st_ino) in seen:  # a link to a folder further up
            return
        seen.add((state.st_dev, state.st_ino))
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda each: each.name):
                if entry.name.startswith(".") or entry.name == "__MACOSX":
                    continue
                path = before + entry.name
                if entry.is_dir():
                    if is_picture(entry.name):
                        sentence = f"{Path(entry.path)} has the name of a picture but is a folder; rename or remove it"
                        report([sentence], otherwise=sentence)
                    else:
                        look(Path(entry.path), f"{path}/")
                elif is_picture(entry.name):
                    found.append(path)

    look(root, "")
    return found


def is_picture(name: str) -> bool:
    """Whether a file's name ends like a picture's."""
    return name.lower().endswith(SUFFIXES)
