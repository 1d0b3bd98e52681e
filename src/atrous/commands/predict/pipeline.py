"""Read, predict and write many images, reading and writing while the network runs."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from atrous.commands.predict.image_files import ImageFile, read_rgb
from atrous.errors import AtrousError

_THREADS = min(4, os.cpu_count() or 1)

Pixels = NDArray[np.uint8]
Job = tuple[ImageFile, Pixels]


@dataclass(frozen=True)
class Result:
    """What happened to one image.

    Attributes:
        image: The image.
        failure: Why it has no results; ``None`` where they are written.
    """

    image: ImageFile
    failure: str | None = None


def predict_files(
    images: Sequence[ImageFile],
    *,
    predictor: Callable[[Pixels], Pixels],
    write: Callable[[ImageFile, Pixels, Pixels], None],
    read: Callable[[Path], Pixels] = read_rgb,
    batch_size: int = 4,
) -> Iterator[Result]:
    """Predict images in batches of equal size; what cannot be read or is too large is skipped.

    At most about ten batches of images are in memory, whatever their number: those read ahead, those that wait for
    others of their size, and those that are being written.

    Args:
        images: What to predict.
        predictor: Gives train ids B×H×W for images B×H×W×3; raises MemoryError where a batch is too large.
        write: Called with image, pixels and train ids, from another thread.
        read: Gives the pixels H×W×3 of a file, or raises an AtrousError that says why there are none.
        batch_size: Images that are predicted together if they have the same size.

    Yields:
        One result for each image, in the order in which they are done.

    Raises:
        AtrousError: Batch size below 1, or results cannot be written.
    """
    if not isinstance(batch_size, int) or batch_size < 1:
        raise AtrousError(f"batch_size={batch_size} is not a positive whole number")
    with ThreadPoolExecutor(_THREADS) as readers, ThreadPoolExecutor(_THREADS) as writers:
        writing: deque[tuple[ImageFile, Future[None]]] = deque()
        for batch in _batches(_read_ahead(images, read, readers, count=2 * batch_size), batch_size):
            if isinstance(batch, Result):
                yield batch
                continue
            for outcome in _predict(batch, predictor):
                if isinstance(outcome, Result):
                    yield outcome
                    continue
                (image, rgb), labels = outcome
                writing.append((image, writers.submit(write, image, rgb, labels)))
            while len(writing) > 2 * batch_size:
                yield _written(*writing.popleft())
        while writing:
            yield _written(*writing.popleft())


def _read_ahead(
    images: Sequence[ImageFile], read: Callable[[Path], Pixels], readers: ThreadPoolExecutor, *, count: int
) -> Iterator[Job | Result]:
    """Images in order, decoded while the network works."""
    waiting = iter(images)
    reading: deque[tuple[ImageFile, Future[Pixels]]] = deque()
    while True:
        while len(reading) < count and (image := next(waiting, None)) is not None:
            reading.append((image, readers.submit(read, image.path)))
        if not reading:
            return
        image, future = reading.popleft()
        try:
            yield image, future.result()
        except AtrousError as error:
            yield Result(image, str(error))


def _batches(jobs: Iterator[Job | Result], batch_size: int) -> Iterator[list[Job] | Result]:
    """Collect images of equal size; when four batches' worth are waiting, pass on the largest group as it is."""
    groups: dict[tuple[int, ...], list[Job]] = {}
    for job in jobs:
        if isinstance(job, Result):
            yield job
            continue
        size = job[1].shape
        groups.setdefault(size, []).append(job)
        if len(groups[size]) == batch_size:
            yield groups.pop(size)
        elif sum(map(len, groups.values())) >= 4 * batch_size:
            yield groups.pop(max(groups, key=lambda each: len(groups[each])))
    yield from groups.values()


def _predict(batch: list[Job], predictor: Callable[[Pixels], Pixels]) -> Iterator[tuple[Job, Pixels] | Result]:
    """Predict together, or one by one if memory is too small for all."""
    try:
        labels = predictor(np.stack([rgb for _, rgb in batch]))
    except MemoryError as error:
        if len(batch) == 1:
            image, rgb = batch[0]
            yield Result(image, f"with {rgb.shape[1]}x{rgb.shape[0]} pixels it {error or 'needs too much memory'}")
            return
    else:
        yield from zip(batch, labels, strict=True)
        return
    for job in batch:
        yield from _predict([job], predictor)


def _written(image: ImageFile, future: Future[None]) -> Result:
    future.result()
    return Result(image)
