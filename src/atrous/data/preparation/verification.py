"""Everything that is wrong with a data set, found at once."""

from __future__ import annotations

import functools
import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from atrous.data.dataset import SegmentationDataset
from atrous.data.preparation.parallel import in_parallel
from atrous.data.problems import collecting_problems
from atrous.data.sets.files import ImageMaskFiles
from atrous.errors import AtrousError

_HELD_BY = {
    "trainval": ("train", "val"),
    "trainaug": ("train",),
    "trainval_aug": ("train", "val", "trainval", "trainaug"),
    "trainval_extra": ("train", "val", "trainval", "train_extra"),
    "train_coarse": ("train", "trainval", "trainval_extra"),
}
"""Splits whose images are in another one by design."""


class _Looked(NamedTuple):
    """What looking at a sample gave: what is wrong with it, and a digest of its image."""

    problem: str | None
    digest: str | None


class Verdict(NamedTuple):
    """What is wrong with a data set.

    Attributes:
        problems: One sentence each; none of them if all is well.
        notes: What is worth knowing and no fault, such as that a split is not the whole one.
        lengths: Samples by split.
    """

    problems: list[str]
    notes: list[str]
    lengths: dict[str, int]


def verify(
    build: Callable[[str], SegmentationDataset], splits: tuple[str, ...], *, workers: int | None = None
) -> Verdict:
    """Read every image and mask of some splits, and compare the splits with each other.

    Found are files that are missing, cannot be read or are cut off, images and masks of different size, ids outside
    the label space, masks of colors, empty and repeated entries of lists, and images of one split that are in another
    too, by their names or by their content.

    Args:
        build: Opens a split.
        splits: Their names.
        workers: Processes; ``None`` for one on each core.
    """
    problems: list[str] = []
    notes: list[str] = []
    lengths: dict[str, int] = {}
    digests: dict[str, dict[str, str]] = {}
    for split in splits:
        with collecting_problems() as found:
            try:
                dataset = build(split)
            except AtrousError as error:
                problems += [*found, str(error)]
                continue
        problems += found
        name = f"{dataset.label_space.name} {split}"
        counts = Counter(dataset.names)
        problems += [f"{name}: {sample!r} is listed {count} times" for sample, count in counts.items() if count > 1]
        missing = {sentence.split(": ")[0] for sentence in found}
        indices = [index for index in range(len(dataset)) if not _lacks(dataset, index, missing)]
        looked = in_parallel(functools.partial(_look, dataset), indices, f"looking at {name}", workers=workers)
        problems += [each.problem for each in looked if each.problem is not None]
        digests[split] = {
            dataset.names[index]: each.digest for index, each in zip(indices, looked, strict=True) if each.digest
        }
        lengths[split] = len(dataset)
        if dataset.published not in (None, len(dataset)):
            notes.append(f"{name} has {len(dataset):,} of the {dataset.published:,} published images")
    problems += _overlaps(digests)
    return Verdict(problems, notes, lengths)


def _look(dataset: SegmentationDataset, index: int) -> _Looked:
    digest = None
    try:
        if isinstance(dataset, ImageMaskFiles):
            with dataset.images[index].open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        dataset[index]
    except (AtrousError, OSError) as error:
        return _Looked(str(error), digest)
    return _Looked(None, digest)


def _lacks(dataset: SegmentationDataset, index: int, missing: set[str]) -> bool:
    """Whether a file of a sample is missing, which has been said already."""
    if not isinstance(dataset, ImageMaskFiles):
        return False
    files: list[Path] = [dataset.images[index], *dataset.masks[index : index + 1]]
    return any(str(path) in missing for path in files)


def _overlaps(digests: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Images that are in two splits, but for splits that hold others, as trainval holds val."""
    problems = []
    of_content: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    splits = list(digests)
    for split in splits:
        for name, digest in digests[split].items():
            of_content[digest].append((split, name))
    for number, one in enumerate(splits):
        for other in splits[number + 1 :]:
            if one in _HELD_BY.get(other, ()) or other in _HELD_BY.get(one, ()):
                continue
            names = digests[one].keys() & digests[other].keys()
            problems += [f"{name!r} is in {one} and in {other}" for name in sorted(names)]
            problems += [
                f"{left!r} of {one} and {right!r} of {other} are the same image"
                for left, right in sorted(
                    (left, right)
                    for same in of_content.values()
                    for first, left in same
                    for second, right in same
                    if first == one and second == other and left != right
                )
            ]
    return problems
