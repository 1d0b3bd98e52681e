"""Data of an architecture search: what weights learn from, and what the architecture learns from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch.utils.data import Dataset

from atrous.data.data_module import SegmentationDataModule, collate
from atrous.data.dataset import RawSample, Sample, SegmentationDataset
from atrous.data.loading.halves import Pair, PairedStream, halves
from atrous.data.loading.sampling import Draw, ResumableLoader, TrainingStream
from atrous.errors import AtrousError

_SECOND = 1 << 39
"""Where draws of the second half begin to count for augmentation, so that none has a seed of the first half."""


class SearchDataModule(SegmentationDataModule):
    """Gives batches of both halves of the training data: ``{"weights": ..., "architecture": ... or None}``.

    Args:
        architecture_from: Steps after which the second half is read too; ``None`` for never.
        options: Those of ``SegmentationDataModule``.
    """

    def __init__(self, *, architecture_from: int | None = 0, **options: Any) -> None:
        super().__init__(**options)
        self.architecture_from = architecture_from

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which every image of the larger half is drawn once, but for a rest smaller than a batch."""
        first, _ = self.halves
        return max(1, len(first) // self.batch_size)

    @property
    def halves(self) -> tuple[Sequence[int], Sequence[int]]:
        """Indices of the training images that weights, and that the architecture learns from."""
        first, second = halves(len(self.dataset("train")), seed=self.seed)
        return first.tolist(), second.tolist()

    def train_dataloader(self) -> ResumableLoader:
        """Endless stream of pairs of batches, in chunks of ``validate_every`` steps."""
        rank, world_size, accumulate = self._training_shard()
        dataset, repeats, of = self.cached("train"), self._repeats(), self.halves
        streams = [
            TrainingStream(
                len(half),
                batch_size=self.batch_size,
                chunk=self.validate_every * accumulate,
                seed=self.seed + number,
                rank=rank,
                world_size=world_size,
                repeats=None if repeats is None else [repeats[image] for image in half],
            )
            for number, half in enumerate(of)
        ]
        begins = None if self.architecture_from is None else self.architecture_from * accumulate
        pairs = PairedStream(*streams, of=of, second_from=begins)
        options = {**self._loader_options(), "collate_fn": _collate_or_error}
        return ResumableLoader(_AugmentedPairs(dataset, self._augment, self.seed), batch_sampler=pairs, **options)


class _AugmentedPairs(Dataset[Any]):
    """Training samples by pair of draws."""

    def __init__(self, dataset: SegmentationDataset, augment: Callable[[RawSample, int], Sample], seed: int) -> None:
        self.dataset = dataset
        self.augment = augment
        self.seed = seed

    def __getitems__(self, pairs: Sequence[Pair]) -> Iterable[tuple[Sample, Sample | None]]:
        return map(self.__getitem__, pairs)

    def __getitem__(self, pair: Pair) -> tuple[Sample, Sample | None]:
        return self._sample(pair.first, 0), None if pair.second is None else self._sample(pair.second, _SECOND)

    def _sample(self, draw: Draw, offset: int) -> Sample:
        return self.augment(self.dataset[draw.sample], (self.seed << 40) + offset + draw.number)


def _collate_or_error(samples: Iterable[tuple[Sample, Sample | None]]) -> dict[str, Any] | AtrousError:
    """Read and join samples, or say what is wrong with them, for a ``SampleLoader`` to raise."""
    try:
        firsts, seconds = zip(*samples, strict=True)
        return {"weights": collate(firsts), "architecture": None if seconds[0] is None else collate(seconds)}
    except AtrousError as error:
        return error
