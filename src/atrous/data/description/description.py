"""A user's own folder of images: patterns of its files, its classes, and what its splits consist of."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from atrous.data.description.color_code import ColorCode
from atrous.data.description.patterns import Pattern
from atrous.data.label_space import LabelSpace
from atrous.data.problems import note, report
from atrous.errors import AtrousError

FILE = "atrous.yaml"
"""Name of the file that describes the folder that it is in."""

Split = float | tuple[str, ...]
"""A share of the images that no other split names, or lists (``.txt``) and patterns of names."""


@dataclass(frozen=True)
class Description:
    """What data=folder knows about a folder.

    Attributes:
        label_space: Classes, colors, and the ids in the masks.
        images: Pattern of the image files.
        masks: Pattern of the mask files.
        splits: What every split consists of.
        color_code: Colors in the masks, if they hold colors; ``None`` if they hold ids.
        seed: Of the splits that are shares.
        orientation: Whether masks fit the images as "stored" or turned "upright" as their EXIF tag says; ``None`` if no
            image has such a tag.
        unlabeled: Whether an image without a mask is an "error" or one to "skip".
    """

    label_space: LabelSpace
    images: Pattern
    masks: Pattern
    splits: Mapping[str, Split]
    color_code: ColorCode | None = None
    seed: int = 0
    orientation: Literal["stored", "upright"] | None = None
    unlabeled: Literal["error", "skip"] = "error"

    def choose(
        self, split: str, names: Sequence[str], *, root: Path, labeled: Container[str] | None = None
    ) -> list[str]:
        """The names of a split, sorted.

        Args:
            split: One of ``splits``.
            names: All samples.
            root: Where lists are.
            labeled: The samples that shares are of; ``None`` for all.

        Raises:
            AtrousError: There is no such split, or it names a sample that does not exist.
        """
        if split not in self.splits:
            known = ", ".join(self.splits)
            raise AtrousError(f"{self.label_space.name}: unknown split {split!r}; {FILE} has {known}")
        wanted = self.splits[split]
        if not isinstance(wanted, float):
            return _named(wanted, names, root=root, split=split)
        named: set[str] = set()
        for other, parts in self.splits.items():
            if not isinstance(parts, float):
                named.update(_named(parts, names, root=root, split=other))
        return self._share(
            split, [name for name in names if name not in named and (labeled is None or name in labeled)]
        )

    def _share(self, split: str, names: Sequence[str]) -> list[str]:
        """A part of the names that hardly changes when some are added: they are ordered by a digest of each."""
        shuffled = sorted(names, key=lambda name: hashlib.sha256(f"{self.seed} {name}".encode()).digest())
        lengths = _lengths({name: each for name, each in self.splits.items() if isinstance(each, float)}, len(names))
        begin = sum(lengths[name] for name in list(lengths)[: list(lengths).index(split)])
        return sorted(shuffled[begin : begin + lengths[split]])


def _lengths(shares: Mapping[str, float], total: int) -> dict[str, int]:
    """Numbers in the ratio of the shares; none is 0 while another can give one away."""
    ends = [round(end * total) for end in itertools.accumulate(shares.values(), initial=0.0)]
    lengths = {name: end - begin for name, begin, end in zip(shares, ends, ends[1:], strict=False)}
    for name in lengths:
        most = max(lengths, key=lambda each: lengths[each])
        if lengths[name] == 0 and lengths[most] > 1:
            lengths[name], lengths[most] = 1, lengths[most] - 1
    return lengths


def _named(parts: Sequence[str], names: Sequence[str], *, root: Path, split: str) -> list[str]:
    found: set[str] = set()
    for part in parts:
        if part.lower().endswith(".txt"):
            found.update(_listed(root / part, names))
            continue
        expression = re.compile(".*".join(map(re.escape, part.split("*"))))
        matching = [name for name in names if expression.fullmatch(name)]
        if not matching:
            raise AtrousError(f"split {split!r}: no sample has a name like {part!r}; such a name is {names[0]!r}")
        found.update(matching)
    return sorted(found)


def _listed(path: Path, names: Sequence[str]) -> list[str]:
    """The samples of a list, by their names or by paths that end like them, with or without suffix."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except FileNotFoundError as error:
        raise AtrousError(f"{path}: no such list of names") from error
    except (OSError, UnicodeDecodeError) as error:
        raise AtrousError(f"{path}: the list cannot be read as text in UTF-8 ({error})") from error
    known = set(names)
    of_end: dict[str, set[str]] = {}
    for name in names:
        of_end.setdefault(name.rpartition("/")[2], set()).add(name)
    found: list[str] = []
    for number, line in enumerate(lines, start=1):
        matching = _matching(line, known, of_end) if line else set()
        if not line:
            note(f"{path}: line {number} is empty")
        elif len(matching) != 1:
            several = f"{len(matching)} images have this name" if matching else "there is no such image"
            sentence = f"{path}, line {number}: {line!r}: {several}"
            report([sentence], otherwise=sentence)
        else:
            found += matching
    for name, count in Counter(found).items():
        if count > 1:
            note(f"{path}: {name!r} is listed {count} times")
    if not found:
        raise AtrousError(f"{path}: the list is empty")
    return found


def _matching(line: str, known: set[str], of_end: Mapping[str, set[str]]) -> set[str]:
    """Samples that a line may mean: the one of this very name, or all whose names it ends like, or that end like it."""
    for entry in (line, line.split()[0]):  # a list may have an image and its mask in each line
        plain = entry.replace("\\", "/").removeprefix("./")
        for candidate in (plain, plain.rpartition(".")[0]):
            if candidate in known:
                return {candidate}
            near = of_end.get(candidate.rpartition("/")[2], set())
            ends = {name for name in near if _ends_with(candidate, name) or _ends_with(name, candidate)}
            if candidate and ends:
                return ends
    return set()


def _ends_with(path: str, end: str) -> bool:
    return path == end or path.endswith(f"/{end}")
