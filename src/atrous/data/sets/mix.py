"""Several data sets of one label space as one."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Mapping
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from atrous.data.dataset import RawSample, SegmentationDataset
from atrous.errors import AtrousError


class Mix(SegmentationDataset):
    """The training images of several data sets one after the other; of other splits, those of the first data set.

    Args:
        split: "train", or a split of the first data set.
        parts: Data sets by name, each called with ``split``, and with ``root`` where one is given.
        train_splits: The split of each that is trained on.
        root: Folder in which every data set finds its own.

    Raises:
        AtrousError: There is no part, a name has no training split, or classes differ.
    """

    def __init__(
        self,
        split: str,
        *,
        parts: Mapping[str, Callable[..., SegmentationDataset]],
        train_splits: Mapping[str, str],
        root: str | Path | None = None,
    ) -> None:
        if not parts or parts.keys() != train_splits.keys():
            raise AtrousError("data=mix has no data sets: name them with their weights, data.parts={<name>: <weight>}")
        first = next(iter(parts))
        chosen = train_splits if split == "train" else {first: split}
        place = {} if root is None else {"root": root}
        self.parts = {name: parts[name](split=of_part, **place) for name, of_part in chosen.items()}
        self.label_space = self.parts[first].label_space
        for name, part in self.parts.items():
            if part.label_space.classes != self.label_space.classes:
                raise AtrousError(
                    f"data=mix: {name} has other classes than {first} ({_first_difference(part, self.parts[first])}); "
                    "only data sets of the same classes can be mixed"
                )
        self.split = split
        self.names = [name for part in self.parts.values() for name in part.names]
        published = [part.published for part in self.parts.values()]
        self.published = None if None in published else sum(number or 0 for number in published)
        self.labeled = all(part.labeled for part in self.parts.values())
        self._ends = list(accumulate(map(len, self.parts.values())))

    def repeats(self, weights: Mapping[str, float]) -> list[float]:
        """Draws of every image in a pass as long as all parts together, for draws of parts in the ratio of weights.

        Raises:
            AtrousError: A part has no weight, or one that is not above zero.
        """
        if weights.keys() != self.parts.keys() or not all(weight > 0 for weight in weights.values()):
            raise AtrousError(f"data.parts={dict(weights)}: every data set needs a weight above 0")
        share = len(self) / sum(weights.values())
        return [share * weights[name] / len(part) for name, part in self.parts.items() for _ in range(len(part))]

    def __getitem__(self, index: int) -> RawSample:
        """Read one sample of the part that it belongs to."""
        part, inner = self._place(index)
        return part[inner]

    def mask(self, index: int) -> NDArray[np.uint8]:
        """Truth of one sample."""
        part, inner = self._place(index)
        return part.mask(inner)

    def image_size(self, index: int) -> tuple[int, int]:
        """Height and width of one sample."""
        part, inner = self._place(index)
        return part.image_size(inner)

    def fingerprint(self, *, images: bool = False) -> str:
        """Changes when that of a part does."""
        found = [part.fingerprint(images=images) for part in self.parts.values()]
        return hashlib.sha256(repr(found).encode()).hexdigest()

    def _place(self, index: int) -> tuple[SegmentationDataset, int]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = bisect_right(self._ends, index)
        part = list(self.parts.values())[number]
        return part, index - (self._ends[number] - len(part))


def _first_difference(one: SegmentationDataset, other: SegmentationDataset) -> str:
    mine, theirs = one.label_space.classes, other.label_space.classes
    for number, (name, expected) in enumerate(zip(mine, theirs, strict=False)):
        if name != expected:
            return f"class {number} is {name!r} instead of {expected!r}"
    return f"{len(mine)} instead of {len(theirs)}"
