"""The same work on many files by several processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from typing import TypeVar

from atrous.errors import AtrousError
from atrous.terminal import track

Item = TypeVar("Item")
Result = TypeVar("Result")
_AHEAD = 8  # items given out for each process


def in_parallel(
    function: Callable[[Item], Result], items: Sequence[Item], description: str, *, workers: int | None = None
) -> list[Result]:
    """Call a function for every item and show how far it is; results are in the order of the items.

    Args:
        function: A function of a module, so that other processes can import it.
        items: Its arguments.
        description: What is done, for the progress.
        workers: Processes; 0 or 1 for this one alone, ``None`` for one on each core.

    Raises:
        AtrousError: The function raised one, or a process was killed.
    """
    workers = len(os.sched_getaffinity(0)) if workers is None else workers
    if min(workers, len(items)) <= 1:
        return list(track(map(function, items), description, total=len(items)))
    # as the loaders of a training do; a process that starts anew would import PyTorch for seconds
    context = multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start) as pool:
        return list(track(_in_turn(pool, function, items, workers), description, total=len(items)))


def _in_turn(
    pool: ProcessPoolExecutor, function: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[Result]:
    """Results in order, with a bounded number of items on their way, so that an error ends it soon."""
    waiting = [pool.submit(function, item) for item in items[: _AHEAD * workers]]
    try:
        for number in range(len(items)):
            result = waiting[0].result()
            waiting.pop(0)
            if (following := number + _AHEAD * workers) < len(items):
                waiting.append(pool.submit(function, items[following]))
            yield result
    except BrokenExecutor as error:
        raise AtrousError("a process of the preparation was killed; start it again, what is done is kept") from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start() -> None:
    """Live as long as the process that waits: it gets the signals of a terminal, and may be killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
