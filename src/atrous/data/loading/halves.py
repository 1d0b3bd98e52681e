"""Two disjoint halves of the training data, of which each step draws a batch (Auto-DeepLab §3.3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from atrous.data.loading.sampling import Draw, TrainingStream
from atrous.errors import AtrousError


class Pair(NamedTuple):
    """What a step draws at the same place of its two batches.

    Attributes:
        first: From the first half.
        second: From the second half, or ``None`` while nobody needs it.
    """

    first: Draw
    second: Draw | None


def halves(length: int, *, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of a random half of a data set and of the rest, ascending; the same for the same seed.

    Args:
        length: Number of samples; of an odd number the first half has one more.
        seed: Seed of the choice.

    Raises:
        AtrousError: There are fewer than two samples.
    """
    if length < 2:
        raise AtrousError(f"a search needs two training images, one for each half; the data set has {length}")
    order = np.random.default_rng((seed, 2)).permutation(length)
    middle = (length + 1) // 2
    return np.sort(order[:middle]), np.sort(order[middle:])


class PairedStream(Sampler[list[Pair]]):
    """Batches from two endless streams, step by step.

    Args:
        first: Stream over the first half.
        second: Stream over the second half, of the same batches and chunks.
        of: Indices of the two halves in the data set.
        second_from: Batches after which the second half is drawn too; ``None`` for never.
    """

    def __init__(
        self,
        first: TrainingStream,
        second: TrainingStream,
        *,
        of: tuple[Sequence[int] | NDArray[np.int64], Sequence[int] | NDArray[np.int64]],
        second_from: int | None = 0,
    ) -> None:
        self.streams = (first, second)
        self.of = of
        self.second_from = second_from

    @property
    def position(self) -> int:
        """Batches handed out since the run began."""
        return self.streams[0].position

    @position.setter
    def position(self, batches: int) -> None:
        for stream in self.streams:
            stream.position = batches

    def __len__(self) -> int:
        """Batches in a whole chunk."""
        return len(self.streams[0])

    def __iter__(self) -> Iterator[list[Pair]]:
        """Yield the batches from ``position`` to the end of its chunk."""
        for batch, (first, second) in enumerate(zip(*self.streams, strict=True), start=self.position):
            both = self.second_from is not None and batch >= self.second_from
            yield [
                Pair(self._draw(0, one), self._draw(1, other) if both else None)
                for one, other in zip(first, second, strict=True)
            ]

    def _draw(self, half: int, draw: Draw) -> Draw:
        return Draw(int(self.of[half][draw.sample]), draw.number)
