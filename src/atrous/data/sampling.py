"""Which sample is drawn when: a pure function of seed and position, so that any moment of a run can be found again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch.utils.data import DataLoader, Sampler

from atrous.data.dataset import Sample


class Draw(NamedTuple):
    """One draw from the training stream.

    Attributes:
        sample: Index into the data set.
        number: How many draws came before it in the whole run; seeds its augmentation.
    """

    sample: int
    number: int


class TrainingStream(Sampler[list[Draw]]):
    """Batches from an endless stream of shuffled passes over a data set, cut into chunks between validations.

    The stream depends on the seed alone. A batch is shared by all processes: rank ``r`` of ``w`` takes every ``w``-th
    draw, so the number of processes does not change which draws make up a step.
    """

    def __init__(
        self,
        length: int,
        *,
        batch_size: int,
        chunk: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        repeats: Sequence[int] | None = None,
    ) -> None:
        """Define the stream.

        Args:
            length: Number of samples in the data set.
            batch_size: Samples a batch over all processes; a multiple of ``world_size``.
            chunk: Batches between two validations.
            seed: Seed of the shuffling.
            rank: This process.
            world_size: Number of processes.
            repeats: How often a pass draws each sample; ``None`` for once.
        """
        self.samples = np.repeat(np.arange(length), 1 if repeats is None else repeats)
        self.batch_size = batch_size
        self.chunk = chunk
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.position = 0
        self._pass = -1
        self._order = np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        """Batches in a whole chunk."""
        return self.chunk

    def __iter__(self) -> Iterator[list[Draw]]:
        """Yield the batches from ``position`` to the end of its chunk."""
        end = (self.position // self.chunk + 1) * self.chunk
        for batch in range(self.position, end):
            first = batch * self.batch_size
            yield [self._draw(n) for n in range(first + self.rank, first + self.batch_size, self.world_size)]

    def _draw(self, number: int) -> Draw:
        passed, place = divmod(number, len(self.samples))
        if passed != self._pass:
            self._order = np.random.default_rng((self.seed, passed)).permutation(self.samples)
            self._pass = passed
        return Draw(int(self._order[place]), number)


class ResumableLoader(DataLoader[Sample]):
    """A loader over a ``TrainingStream`` that remembers how many batches were handed out.

    Batches that workers prepared ahead do not count; Lightning keeps the state in its checkpoints.
    """

    batch_sampler: TrainingStream
    _batches: int = 0

    def __iter__(self) -> Iterator[Sample]:  # type: ignore[override]
        """Go on where the last batch was handed out."""
        self.batch_sampler.position = self._batches
        for batch in super().__iter__():
            self._batches += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """The number of batches handed out since the run began."""
        return {"batches": self._batches}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue behind that many batches."""
        self._batches = state["batches"]


class EachOnce(Sampler[int]):
    """Every ``world_size``-th sample in order: over all processes each sample once, none repeated to fill up."""

    def __init__(self, length: int, *, rank: int = 0, world_size: int = 1) -> None:
        """Set the shard; see the class."""
        self.indices = range(rank, length, world_size)

    def __len__(self) -> int:
        """Samples of this process."""
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        """Yield the indices."""
        return iter(self.indices)
