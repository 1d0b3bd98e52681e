"""How a folder marks its splits: by folders, by lists, or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from atrous.data.description.description import Split
from atrous.errors import AtrousError

SPLIT_OF_WORD = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Splits by the words that name them."""

_SHARES: dict[str, Split] = {"train": 0.8, "val": 0.2}
_FEWEST = 2


def find_splits(root: Path, names: Sequence[str]) -> dict[str, Split]:
    """Splits by folders such as ``train`` and ``val``, by text files of these names, or by shares.

    Raises:
        AtrousError: There are fewer than two samples.
    """
    if len(names) < _FEWEST:
        raise AtrousError(f"{root}: {len(names)} labeled image is not enough: some to train on, and some to score, are")
    by_folder: dict[str, Split] = {}
    for word in dict.fromkeys(name.split("/")[0] for name in names if "/" in name):
        split = SPLIT_OF_WORD.get(word.lower())
        if split is not None:
            before = by_folder.get(split, ())
            by_folder[split] = (*(before if isinstance(before, tuple) else ()), f"{word}/*")
    found = by_folder or _by_lists(root, names)
    if not {"train", "val"} <= found.keys():  # choices need a split of their own; a test split is not for them
        return {**{name: found[name] for name in ("test",) if name in found}, **_SHARES}
    return {name: found[name] for name in ("train", "val", "test") if name in found}


def _by_lists(root: Path, names: Sequence[str]) -> dict[str, Split]:
    """Text files that are called after splits and name samples."""
    known = set(names) | {name.rpartition("/")[2] for name in names}
    found: dict[str, Split] = {}
    for path in sorted(root.rglob("*.txt")):
        split = SPLIT_OF_WORD.get(path.stem.lower())
        if split is None or split in found:
            continue
        try:
            entries = [line.split()[0] for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError):
            continue
        stems = {part for entry in entries for part in (entry.rpartition("/")[2], Path(entry).stem)}
        if entries and len(stems & known) >= 0.9 * len(set(entries)):
            found[split] = (path.relative_to(root).as_posix(),)
    return found


def describe_splits(splits: Mapping[str, Split], chosen: Mapping[str, int]) -> str:
    """Splits in words, such as "train 80 (0.8), val 20 (0.2)"."""
    parts = []
    for name, value in splits.items():
        said = f"{value:g} of the rest" if isinstance(value, float) else ", ".join(value)
        parts.append(f"{name} {chosen[name]:,} ({said})")
    return ", ".join(parts)
