"""Names of classes from the small text files that come with data sets."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from atrous.data.description.color_code import Color

_FILES = re.compile(
    r"(class(es)?([_-]?(names|dict|list))?|labels?([_-]?(colou?rs|names|map))?|colou?r[_-]?map|codes|names)\.(txt|csv|json)",
    re.IGNORECASE,
)
_MOST_BYTES = 1 << 20


class ClassNames(NamedTuple):
    """What a file says about classes.

    Attributes:
        file: The file.
        of_id: Names by id.
        of_color: Names by color.
    """

    file: Path
    of_id: dict[int, str]
    of_color: dict[Color, str]


def find_class_names(root: Path, ids: Iterable[int], colors: Iterable[Color]) -> ClassNames | None:
    """Names for the ids or colors of masks, from a file such as ``classes.txt`` or ``labelmap.txt``.

    A line is a name, an id and a name, or a name and its red, green and blue in any order. Lines without numbers are
    the ids from 0 on. A file counts if it names at least half of what is in the masks.
    """
    wanted_ids, wanted_colors = set(ids), set(colors)
    for path in sorted([*root.glob("*"), *root.glob("*/*")], key=lambda each: (len(each.parts), each.name)):
        if not _FILES.fullmatch(path.name) or not path.is_file() or path.stat().st_size > _MOST_BYTES:
            continue
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError):
            continue
        found = _parsed(path, text)
        named = len(wanted_ids & found.of_id.keys()) + len(wanted_colors & found.of_color.keys())
        if 2 * named >= len(wanted_ids) + len(wanted_colors):
            return found
    return None


def _parsed(path: Path, text: str) -> ClassNames:
    if path.suffix.lower() == ".json":
        return _from_json(path, text)
    of_id: dict[int, str] = {}
    of_color: dict[Color, str] = {}
    rows = [row for row in map(_columns, text.splitlines()) if row]
    if any(_numbers(row) for row in rows[1:]):
        rows = [row for row in rows if _numbers(row)]  # a first line of headings has none
    for place, row in enumerate(rows):
        numbers, words = _numbers(row), [word for word in row if not word.lstrip("-").isdigit()]
        if not words:
            continue
        name = words[0]
        if len(numbers) >= 3 and all(0 <= number <= 255 for number in numbers[-3:]):
            of_color[(numbers[-3], numbers[-2], numbers[-1])] = name
            if len(numbers) == 4:
                of_id[numbers[0]] = name
        elif len(numbers) == 1:
            of_id[numbers[0]] = name
        elif not numbers:
            of_id[place] = name
    return ClassNames(path, of_id, of_color)


def _columns(line: str) -> list[str]:
    """Parts of a line between tabs, commas, colons or, if there is none of them, numbers and the words around them."""
    line = line.strip()
    if not line or line.startswith("#"):
        return []
    if any(separator in line for separator in "\t,:;"):
        parts = [part for cell in re.split(r"[\t:;]", line) for part in next(csv.reader([cell]), [])]
        parts = [number for part in parts for number in _split_numbers(part)]
    else:
        parts = _split_numbers(line)
    return [part.strip() for part in parts if part.strip()]


def _split_numbers(text: str) -> list[str]:
    """``128 64 128 road side`` is three numbers and a name."""
    words = text.split()
    numbers = [word for word in words if word.isdigit()]
    name = " ".join(word for word in words if not word.isdigit())
    if len(numbers) == len(words):
        return words
    before = bool(words) and words[0].isdigit()
    return [*numbers, name] if before else [name, *numbers]


def _numbers(row: list[str]) -> list[int]:
    return [int(word) for word in row if word.isdigit()]


def _from_json(path: Path, text: str) -> ClassNames:
    """A list of names, or names by id, or ids by name."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    of_id: dict[int, str] = {}
    if isinstance(content, list) and all(isinstance(each, str) for each in content):
        of_id = dict(enumerate(content))
    elif isinstance(content, dict):
        for key, value in content.items():
            if key.isdigit() and isinstance(value, str):
                of_id[int(key)] = value
            elif isinstance(value, int) and not isinstance(value, bool):
                of_id[value] = key
    return ClassNames(path, of_id, {})
