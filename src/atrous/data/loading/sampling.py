"""Which sample is drawn when: a pure function of seed and position, so any moment of a run can be reproduced."""

from __future__ import annotations

import signal
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Sampler

from atrous.data.dataset import Sample
from atrous.errors import AtrousError


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

    Args:
        length: Number of samples in the data set.
        batch_size: Samples per batch over all processes; a multiple of ``world_size``.
        chunk: Batches between two validations.
        seed: Seed of the shuffling.
        rank: This process.
        world_size: Number of processes.
        repeats: How often a pass draws each sample; ``None`` for once. Of 2.3 a pass draws 2, and with a probability
            of 0.3 one more, as LVIS rounds its repeat factors.
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
        repeats: Sequence[float] | None = None,
    ) -> None:
        self.repeats = np.ones(length) if repeats is None else np.asarray(repeats, dtype=np.float64)
        self.batch_size = batch_size
        self.chunk = chunk
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.position = 0
        self._starts = [0]  # draws before each pass that was looked at, and before the one after them
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
        while number >= self._starts[-1]:
            self._starts.append(self._starts[-1] + len(self._samples(len(self._starts) - 1)))
        passed = bisect_right(self._starts, number) - 1
        if passed != self._pass:
            self._order = np.random.default_rng((self.seed, passed)).permutation(self._samples(passed))
            self._pass = passed
        return Draw(int(self._order[number - self._starts[passed]]), number)

    def _samples(self, passed: int) -> NDArray[np.int64]:
        """What a pass draws, not yet shuffled."""
        draws = np.floor(self.repeats)
        rest = self.repeats - draws
        if rest.any():  # chances of their own leave the shuffling of whole numbers as it is
            draws += np.random.default_rng((self.seed, passed, 1)).random(len(rest)) < rest
        return np.repeat(np.arange(len(draws)), draws.astype(np.int64))


class SampleLoader(DataLoader[Sample]):
    """A loader whose batches may be an ``AtrousError``, which it raises.

    An error raised in a worker would arrive with the worker's traceback inside the message.

    Attributes:
        waited: Seconds that this process has waited for batches.
    """

    waited: float = 0.0

    def __iter__(self) -> Iterator[Sample]:  # type: ignore[override]
        """Yield the batches up to the first error, which ends the workers too."""
        batch: Sample | AtrousError | None = None
        began = time.perf_counter()
        try:
            for batch in super().__iter__():
                self.waited += time.perf_counter() - began
                if isinstance(batch, AtrousError):
                    break
                yield batch
                began = time.perf_counter()
        except RuntimeError as error:
            if str(error).startswith("DataLoader timed out"):
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # PyTorch's would raise another error
                for worker in getattr(self._iterator, "_workers", ()):
                    worker.kill()  # which hangs, and heeds no other signal
            raise
        if isinstance(batch, AtrousError):
            self._iterator = None  # the traceback keeps the loader, but not its workers
            raise batch


class ResumableLoader(SampleLoader):
    """A loader over a ``TrainingStream`` that remembers how many batches were handed out.

    Batches that workers prepared ahead do not count; Lightning keeps the state in its checkpoints.
    """

    batch_sampler: TrainingStream
    _batches: int = 0

    def __iter__(self) -> Iterator[Sample]:  # type: ignore[override]
        """Continue after the last batch that was handed out."""
        self.batch_sampler.position = self._batches
        for batch in super().__iter__():
            self._batches += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """The number of batches handed out since the run began."""
        return {"batches": self._batches}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Resume after that many batches."""
        self._batches = state["batches"]


class EachOnce(Sampler[int]):
    """Every ``world_size``-th sample in order: over all processes each sample once, none repeated to fill up."""

    def __init__(self, length: int, *, rank: int = 0, world_size: int = 1) -> None:
        self.indices = range(rank, length, world_size)

    def __len__(self) -> int:
        """Samples of this process."""
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        """Yield the indices."""
        return iter(self.indices)


class SameSizeBatches(Sampler[list[int]]):
    """Batches of images that have one size, so that nothing is padded for their sake.

    Samples of a size keep their order, and batches that of their first samples.

    Args:
        indices: The samples of this process.
        size: Height and width of a sample; all are asked when the first batch is.
        batch_size: Most samples in a batch.
    """

    def __init__(self, indices: Sequence[int], size: Callable[[int], tuple[int, int]], batch_size: int) -> None:
        self.indices = indices
        self.batch_size = batch_size
        self._size = size

    @cached_property
    def _batches(self) -> list[list[int]]:
        batches: list[list[int]] = []
        open_batches: dict[tuple[int, int], list[int]] = {}
        for index in self.indices:
            size = self._size(index)
            if len(open_batches.get(size, ())) in (0, self.batch_size):
                open_batches[size] = []
                batches.append(open_batches[size])
            open_batches[size].append(index)
        return batches

    def __len__(self) -> int:
        """Batches of this process."""
        return len(self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the indices of each batch."""
        return iter(self._batches)
