"""Data sets, augmentation and loaders of one run."""

from __future__ import annotations

import functools
import math
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from atrous.data.dataset import RawSample, Sample, SegmentationDataset, to_sample
from atrous.data.label_space import LabelSpace
from atrous.data.loading.cache import CachedDataset, Kind
from atrous.data.loading.repeats import image_repeats
from atrous.data.loading.sampling import (
    Draw,
    EachOnce,
    ResumableLoader,
    SameSizeBatches,
    SampleLoader,
    TrainingStream,
)
from atrous.data.loading.shrunk import ShrunkDataset
from atrous.data.sets import Mix
from atrous.data.statistics import ClassCounts, count_classes
from atrous.errors import AtrousError, require_range
from atrous.signatures import require_argument
from atrous.terminal import open_console, say


class SegmentationDataModule(LightningDataModule):
    """Gives training batches of augmented crops and whole images for validation and test.

    Files are accessed when a split is first used.

    Args:
        dataset: Called with ``split``, and with ``root`` where one is given.
        augment: Maps a raw sample and a seed to a training sample.
        root: Folder of the data set's files; ``None`` for a data set without files.
        train_split: Split to train on.
        val_split: Split to validate on.
        test_split: Split to test on.
        batch_size: Training samples per optimizer step, over all devices and before accumulation.
        eval_batch_size: Most whole images per batch; images of other sizes have batches of their own.
        validate_every: Optimizer steps between two validations.
        num_workers: Loader processes.
        seed: Seed of shuffling and augmentation.
        repeat_threshold: Draw images of classes that occur in a smaller share of the images more often; see
            ``image_repeats``.
        repeat_classes: Draws per pass of the images of some classes; see ``image_repeats``.
        parts: Of a mixed data set, the weight of each part: how many of its images are drawn for those of the others.
        shrink: Whole number that the sides of all images and masks are divided by.
        statistics: Folder in which counts of the masks are kept for later runs; ``None`` to count each time.
        cache: Where decoded samples are kept: "ram", for the loaders of this process, "disk", for all processes and
            later runs, or "none".
        cache_folder: Of ``cache="disk"``.
        cache_gb: Most GiB of a cache in memory, or of all in the folder.
        timeout: Seconds to wait for a batch of a loader process before it counts as hanging; 0 for ever.

    Raises:
        AtrousError: A number is out of range.
    """

    def __init__(
        self,
        *,
        dataset: Callable[..., SegmentationDataset],
        augment: Callable[[RawSample, int], Sample],
        root: str | None = None,
        train_split: str = "train",
        val_split: str = "val",
        test_split: str = "test",
        batch_size: int = 16,
        eval_batch_size: int = 1,
        validate_every: int = 500,
        num_workers: int = 2,
        seed: int = 0,
        repeat_threshold: float | None = None,
        repeat_classes: Mapping[str, int] | None = None,
        parts: Mapping[str, float] | None = None,
        shrink: int = 1,
        statistics: str | Path | None = None,
        cache: Kind = "none",
        cache_folder: str | Path | None = None,
        cache_gb: float = 32,
        timeout: float = 1800,
    ) -> None:
        super().__init__()
        require_range("data.batch_size", batch_size, at_least=1)
        require_range("data.eval_batch_size", eval_batch_size, at_least=1)
        require_range("validate_every", validate_every, at_least=1)
        require_range("data.num_workers", num_workers, at_least=0)
        require_range("seed", seed, at_least=0)
        require_range("data.cache_gb", cache_gb, above=0)
        require_range("data.timeout", timeout, at_least=0)
        require_range("data.shrink", shrink, at_least=1)
        if cache == "disk" and cache_folder is None:
            raise AtrousError("data.cache=disk needs data.cache_folder")
        if root is not None:
            require_argument(getattr(dataset, "func", dataset), "root", root, key="data.root")
        self.source = dataset if root is None else functools.partial(dataset, root=root)
        self._augment = augment
        self._split_of = {"train": train_split, "val": val_split, "test": test_split}
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.validate_every = validate_every
        self.num_workers = num_workers
        self.seed = seed
        self.repeat_threshold = repeat_threshold
        self.repeat_classes = repeat_classes
        self.parts = parts
        self.shrink = shrink
        self.statistics = statistics
        self.cache = cache
        self.cache_folder = cache_folder
        self.cache_gb = cache_gb
        self.timeout = timeout
        self._cached: dict[str, CachedDataset] = {}
        self._loaded: dict[str, SegmentationDataset] = {}
        self._counts: dict[str, ClassCounts] = {}

    @property
    def label_space(self) -> LabelSpace:
        """Classes of the data set."""
        return (next(iter(self._loaded.values()), None) or self.dataset("val")).label_space

    def split(self, stage: str) -> str:
        """Name of the split that ``train``, ``val`` or ``test`` stands for."""
        return self._split_of[stage]

    def dataset(self, stage: str) -> SegmentationDataset:
        """The data set of ``train``, ``val`` or ``test``, opened on first use.

        Raises:
            AtrousError: Training or validation is asked for on a split without labels.
        """
        split = self.split(stage)
        if split not in self._loaded:
            whole = self.source(split=split)
            self._loaded[split] = whole if self.shrink == 1 else ShrunkDataset(whole, self.shrink)
        dataset = self._loaded[split]
        if stage != "test" and not dataset.labeled:
            raise AtrousError(f"{dataset.label_space.name} {split} has no labels: choose another data.{stage}_split")
        return dataset

    def cached(self, stage: str) -> SegmentationDataset:
        """The data set of a stage as loaders read it: through the cache, if there is one.

        Raises:
            AtrousError: The folder of the cache cannot be used.
        """
        split, dataset = self.split(stage), self.dataset(stage)
        if self.cache == "none":
            return dataset
        if split not in self._cached:
            taken = sum(each.capacity.bytes for each in self._cached.values())
            folder, gigabytes = self.cache_folder or "", self.cache_gb
            cached = CachedDataset(dataset, kind=self.cache, folder=folder, gigabytes=gigabytes, taken=taken)
            self._cached[split] = cached
            held, length = cached.capacity.samples, len(dataset)
            if held < length and self._shard()[0] == 0:
                room = f"{held:,} of the {length:,} images of {dataset.label_space.name} {split}"
                others = f"the others are decoded each time (data.cache_gb={self.cache_gb:g})"
                say(open_console(), f"data.cache={self.cache}: there is room for {room}; {others}")
        return self._cached[split]

    def open(self, split: str) -> SegmentationDataset:
        """Any split of the data set."""
        return self.source(split=split)

    def subset(self, stage: str) -> tuple[int, int] | None:
        """Images of ``train``, ``val`` or ``test`` here, and in the published split, if these are not all of them."""
        dataset = self.dataset(stage)
        return None if dataset.published in (None, len(dataset)) else (len(dataset), dataset.published)

    def class_counts(self, stage: str) -> ClassCounts:
        """The classes in the masks of ``train``, ``val`` or ``test``, counted on first use."""
        split = self.split(stage)
        if split not in self._counts:
            self._counts[split] = count_classes(self.dataset(stage), folder=self.statistics)
        return self._counts[split]

    def train_dataloader(self) -> ResumableLoader:
        """Endless stream of augmented batches, in chunks of ``validate_every`` steps."""
        rank, world_size, accumulate = self._training_shard()
        dataset = self.cached("train")
        stream = TrainingStream(
            len(dataset),
            batch_size=self.batch_size,
            chunk=self.validate_every * accumulate,
            seed=self.seed,
            rank=rank,
            world_size=world_size,
            repeats=self._repeats(),
        )
        return ResumableLoader(
            _Augmented(dataset, self._augment, self.seed), batch_sampler=stream, **self._loader_options()
        )

    def val_dataloader(self) -> DataLoader[Sample]:
        """Whole images of the validation split, each once over all processes."""
        return self._evaluation_loader("val")

    def test_dataloader(self) -> DataLoader[Sample]:
        """Whole images of the test split, each once over all processes."""
        return self._evaluation_loader("test")

    def _evaluation_loader(self, stage: str) -> DataLoader[Sample]:
        dataset = self.cached(stage)
        rank, world_size, _ = self._shard()
        if len(dataset) < world_size:
            raise AtrousError(
                f"{dataset.label_space.name} {dataset.split} has fewer images ({len(dataset)}) than there are "
                f"processes ({world_size}), which have to score one each: set trainer.devices to {len(dataset)} or less"
            )
        once = EachOnce(len(dataset), rank=rank, world_size=world_size)
        if self.eval_batch_size == 1:
            return SampleLoader(_Whole(dataset), sampler=once, **self._loader_options())
        batches = SameSizeBatches(once.indices, dataset.image_size, self.eval_batch_size)
        return SampleLoader(_Whole(dataset), batch_sampler=batches, **self._loader_options())

    def _repeats(self) -> list[float] | None:
        factors = []
        if self.parts:
            dataset = self.dataset("train")
            mix = dataset.dataset if isinstance(dataset, ShrunkDataset) else dataset
            if not isinstance(mix, Mix):
                raise AtrousError(f"data.parts={dict(self.parts)} are of a mixed data set: choose data=mix")
            factors.append(mix.repeats(self.parts))
        if self.repeat_threshold is not None or self.repeat_classes:
            occurs, classes = self.class_counts("train").occurs, self.repeat_classes
            factors.append(image_repeats(occurs, self.label_space, threshold=self.repeat_threshold, classes=classes))
        return [math.prod(each) for each in zip(*factors, strict=True)] if factors else None

    def _training_shard(self) -> tuple[int, int, int]:
        """The same as ``_shard``, once a batch can be shared among all devices."""
        shard = self._shard()
        if self.batch_size % shard[1]:
            raise AtrousError(
                f"data.batch_size={self.batch_size} counts all devices and must be a multiple of their "
                f"number ({shard[1]})"
            )
        return shard

    def _shard(self) -> tuple[int, int, int]:
        if self.trainer is None:
            return 0, 1, 1
        return self.trainer.global_rank, self.trainer.world_size, self.trainer.accumulate_grad_batches

    def _loader_options(self) -> dict[str, Any]:
        return {
            "num_workers": self.num_workers,
            "collate_fn": _collate_or_error,
            "worker_init_fn": _start_worker,
            "persistent_workers": self.num_workers > 0,
            "timeout": self.timeout if self.num_workers > 0 else 0,
            "pin_memory": torch.cuda.is_available(),
        }


def collate(samples: Sequence[Sample]) -> dict[str, Any]:
    """Join samples of equal size into a batch.

    Raises:
        AtrousError: The samples differ in size.
    """
    sizes = {sample["size"] for sample in samples}
    if len(sizes) > 1:
        raise AtrousError(
            f"images of different sizes ({', '.join(f'{h}x{w}' for h, w in sorted(sizes))}) cannot share a batch: "
            "crop them to one size"
        )
    listed = {} if "index" not in samples[0] else {"index": [sample["index"] for sample in samples]}
    return {
        "image": torch.stack([sample["image"] for sample in samples]),
        "mask": torch.stack([sample["mask"] for sample in samples]),
        "name": [sample["name"] for sample in samples],
        "size": [sample["size"] for sample in samples],
        **listed,
    }


def _collate_or_error(samples: Iterable[Sample]) -> dict[str, Any] | AtrousError:
    """Read and join samples, or say what is wrong with them, for a ``SampleLoader`` to raise."""
    try:
        return collate(list(samples))
    except AtrousError as error:
        return error


class _Samples(Dataset[Sample]):
    """Samples that are read when they are collated."""

    def __getitems__(self, keys: Sequence[Any]) -> Iterable[Sample]:
        return map(self.__getitem__, keys)


class _Augmented(_Samples):
    """Training samples by draw."""

    def __init__(self, dataset: SegmentationDataset, augment: Callable[[RawSample, int], Sample], seed: int) -> None:
        self.dataset = dataset
        self.augment = augment
        self.seed = seed

    def __getitem__(self, draw: Draw) -> Sample:
        return self.augment(self.dataset[draw.sample], (self.seed << 40) + draw.number)


class _Whole(_Samples):
    """Untouched samples by index."""

    def __init__(self, dataset: SegmentationDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, index: int) -> Sample:
        return {**to_sample(self.dataset[index]), "index": index}


def _start_worker(worker: int) -> None:
    """Workers provide the parallelism, so they have one thread each; the process that they work for ends them."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):  # terminals and schedulers send them to all
        signal.signal(number, signal.SIG_IGN)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
