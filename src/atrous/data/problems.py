"""Collecting what is wrong with a data set instead of stopping at the first of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from atrous.errors import AtrousError

_collected: ContextVar[list[str] | None] = ContextVar("collected", default=None)


@contextmanager
def collecting_problems() -> Iterator[list[str]]:
    """Within the block, what ``report`` is told is collected, one sentence each."""
    problems: list[str] = []
    token = _collected.set(problems)
    try:
        yield problems
    finally:
        _collected.reset(token)


def report(problems: list[str], *, otherwise: str) -> None:
    """Collect problems, or stop.

    Args:
        problems: One sentence each.
        otherwise: The sentence for all of them, where nobody collects.

    Raises:
        AtrousError: Nobody collects them.
    """
    collected = _collected.get()
    if collected is None:
        raise AtrousError(otherwise)
    collected += problems


def note(problem: str) -> None:
    """Collect a problem that does not keep a training from running; where nobody collects, it is passed over."""
    collected = _collected.get()
    if collected is not None:
        collected.append(problem)
