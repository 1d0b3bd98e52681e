"""Decoded samples kept in memory or on disk, so that a file is decoded once and not in every pass.

Pixels lie in a memory map as they are, without compression: a crop reads only the rows that it needs, and what the
system has in memory is shared by loader processes, by all processes of a training and by all trainings of a machine.
Images and masks of the first samples that fit have a place of their own; a flag says that it is filled, and is set once
the pixels are on the disk. So a process can be killed at any moment, and several may fill the same place: they write
the same.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import mmap
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from atrous.atomic_file import atomic_file
from atrous.data.dataset import RawSample, SegmentationDataset, WrappedDataset
from atrous.errors import AtrousError
from atrous.memory import free_memory
from atrous.terminal import track

Kind = Literal["none", "ram", "disk"]
_FORMAT = 1
_PAGE = mmap.ALLOCATIONGRANULARITY
_GIB = 2**30
_CHANNELS = 4  # red, green, blue, and the train id
_SHARE_OF_FREE = 0.8
_WORTH_MORE = 1.25  # so many times the samples are worth filling anew
_PIXELS, _SIZES = ".pixels", ".sizes.npy"
_opened: set[Path] = set()
"""Files that this process uses, which it does not remove."""


class Capacity(NamedTuple):
    """What a cache has room for.

    Attributes:
        samples: Samples of the data set that have a place.
        bytes: Their size.
    """

    samples: int
    bytes: int


class CachedDataset(WrappedDataset):
    """A data set whose samples are decoded at most once, while their files stay as they are.

    Samples are views of the cache that cannot be written to.

    Args:
        dataset: Where samples are read from.
        kind: "ram" for memory that the loader processes of this process share, or "disk" for a file that all processes
            of a machine share.
        folder: Of the file; another one is made for other files, labels or sizes.
        gigabytes: Most GiB of all files in the folder, or of memory. The files that were used longest ago make room.
        taken: Bytes of memory that other caches of this process may fill.

    Raises:
        AtrousError: The folder cannot be written to.
    """

    def __init__(
        self, dataset: SegmentationDataset, *, kind: Kind, folder: str | Path, gigabytes: float, taken: int = 0
    ) -> None:
        super().__init__(dataset)
        self._kind, self._folder, self._gigabytes = kind, folder, gigabytes
        bound = int(gigabytes * _GIB)
        if kind == "ram":
            self._sizes = _sizes(dataset)
            bound = min(bound, int(_SHARE_OF_FREE * free_memory())) - taken
            self._places = _places(self._sizes, bound)
            self._memory = mmap.mmap(-1, int(self._places[-1]))
        else:
            with _explained(folder):
                self._sizes, self._places, self._memory = _open_file(dataset, Path(folder), bound)

    @property
    def capacity(self) -> Capacity:
        """How many samples have a place."""
        return Capacity(len(self._places) - 1, int(self._places[-1]))

    @property
    def filled(self) -> int:
        """How many samples are there."""
        return int(np.frombuffer(self._memory, np.uint8, self.capacity.samples).sum())

    def __getitem__(self, index: int) -> RawSample:
        """Take a sample from its place, or read it and fill the place."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        if self._is_filled(index):
            return self._sample(index)
        sample = self.dataset[index]
        self._fill(index, sample)
        return sample

    def mask(self, index: int) -> NDArray[np.uint8]:
        """The truth of one sample."""
        return self._sample(index).mask if self._is_filled(index) else self.dataset.mask(index)

    def image_size(self, index: int) -> tuple[int, int]:
        """Height and width of one sample."""
        height, width = self._sizes[index]
        return int(height), int(width)

    def fingerprint(self, *, images: bool = False) -> str:
        """That of the data set."""
        return self.dataset.fingerprint(images=images)

    def __reduce__(self) -> tuple[Callable[..., CachedDataset], tuple[object, ...]]:
        """Another process opens the same file; memory cannot be handed over but to a process that is forked."""
        if self._kind == "ram":
            raise AtrousError("data.cache=ram needs loader processes that are forked: use data.cache=disk here")
        return _open_again, (self.dataset, self._folder, self._gigabytes)

    def _is_filled(self, index: int) -> bool:
        return index < len(self._places) - 1 and self._memory[index] == 1

    def _sample(self, index: int) -> RawSample:
        height, width = self.image_size(index)
        start, area = int(self._places[index]), height * width
        pixels = np.frombuffer(memoryview(self._memory).toreadonly(), np.uint8, _CHANNELS * area, start)
        image = pixels[: 3 * area].reshape(height, width, 3)
        return RawSample(image, pixels[3 * area :].reshape(height, width), self.names[index])

    def _fill(self, index: int, sample: RawSample) -> None:
        """Write pixels, see to it that they are on the disk, and say so."""
        if index >= len(self._places) - 1 or sample.mask.shape != self.image_size(index):
            return
        start, area = int(self._places[index]), sample.mask.size
        self._memory[start : start + 3 * area] = sample.image.tobytes()
        self._memory[start + 3 * area : start + _CHANNELS * area] = sample.mask.tobytes()
        self._memory.flush(start, int(self._places[index + 1]) - start)
        self._memory[index] = 1


def fill(dataset: CachedDataset, index: int) -> None:
    """Put one sample into its place, for several processes at once."""
    dataset[index]


def _open_again(dataset: SegmentationDataset, folder: str | Path, gigabytes: float) -> CachedDataset:
    return CachedDataset(dataset, kind="disk", folder=folder, gigabytes=gigabytes)


def _sizes(dataset: SegmentationDataset) -> NDArray[np.int64]:
    """Heights and widths of all samples: n×2."""
    what = f"sizes of {dataset.label_space.name} {dataset.split}"
    indices = track(range(len(dataset)), what, total=len(dataset), lines=1)
    return np.array([dataset.image_size(index) for index in indices], dtype=np.int64).reshape(-1, 2)


def _places(sizes: NDArray[np.int64], bound: int) -> NDArray[np.int64]:
    """Where the pixels of each sample that fits begin, behind one flag for each, and where the last ones end."""
    lengths = -(-_CHANNELS * sizes.prod(axis=1) // _PAGE) * _PAGE
    flags = -(-len(sizes) // _PAGE) * _PAGE
    ends = flags + np.cumsum(lengths)
    fitting = int(np.searchsorted(ends, bound, side="right"))
    return np.concatenate([[flags], ends[:fitting]]).astype(np.int64)


def _open_file(
    dataset: SegmentationDataset, folder: Path, bound: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], mmap.mmap]:
    """Sizes, places and pixels of a file, which is made if it is not there or could hold more."""
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(f"{_FORMAT} {_PAGE} {dataset.fingerprint(images=True)}".encode()).hexdigest()[:16]
    stem = f"{dataset.label_space.name}_{dataset.split}_{digest}"
    sizes = _kept_sizes(folder / f"{stem}{_SIZES}", dataset)
    path = folder / f"{stem}{_PIXELS}"
    with _locked(folder):  # by the others that may be about to make it
        length = path.stat().st_size if path.is_file() else 0
        others = sum(each.stat().st_size for each in _opened - {path} if each.parent == folder and each.is_file())
        room = min(
            bound - others, length + _reclaimable(folder, {path, *_opened}) + int(_SHARE_OF_FREE * _free(folder))
        )
        places, held = _places(sizes, room), len(_places(sizes, length)) - 1
        if length < _PAGE or length > bound - others or len(places) - 1 > _WORTH_MORE * held:
            path.unlink(missing_ok=True)
            _make_room(int(places[-1]), folder, keep=_opened, bound=bound - others)
            _make(path, int(places[-1]))
        with path.open("r+b") as file:
            length = os.fstat(file.fileno()).st_size
            memory = mmap.mmap(file.fileno(), length)
        os.utime(path)
    _opened.add(path)
    return sizes, _places(sizes, length), memory


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / ".lock").open("ab") as file:
        with contextlib.suppress(OSError):  # some network disks have no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _kept_sizes(path: Path, dataset: SegmentationDataset) -> NDArray[np.int64]:
    with contextlib.suppress(OSError, ValueError, EOFError):
        kept: NDArray[np.int64] = np.load(path, allow_pickle=False)
        if kept.shape == (len(dataset), 2) and kept.dtype == np.int64:
            return kept
    sizes = _sizes(dataset)
    with atomic_file(path) as file:
        np.save(file, sizes)
    return sizes


def _make(path: Path, length: int) -> None:
    """A file of this length whose room is taken, so that writing to it cannot fail for lack of it later."""
    with atomic_file(path) as file:
        file.truncate(length)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, length)


def _files(folder: Path, keep: Collection[Path]) -> list[tuple[float, int, Path]]:
    """Time of last use, bytes, and path of the files that may be removed, the oldest first."""
    paths = [path for path in folder.glob(f"*{_PIXELS}*") if path not in keep]
    return sorted((path.stat().st_mtime, path.stat().st_size, path) for path in paths)


def _reclaimable(folder: Path, keep: Collection[Path]) -> int:
    return sum(size for _, size, _ in _files(folder, keep))


def _make_room(length: int, folder: Path, *, keep: Collection[Path], bound: int) -> None:
    """Remove the files that were used longest ago, until a file of this length fits into the bound and on the disk."""
    files = _files(folder, keep)
    total = length + sum(size for _, size, _ in files)
    for _, size, path in files:
        if total > bound or _free(folder) < length:
            path.unlink(missing_ok=True)
            (folder / path.name.replace(_PIXELS, _SIZES)).unlink(missing_ok=True)
            total -= size


def _free(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


@contextlib.contextmanager
def _explained(folder: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise AtrousError(
            f"data.cache=disk: {error.filename or folder} cannot be used ({error.strerror or error}): give another "
            "data.cache_folder, or data.cache=none"
        ) from error
