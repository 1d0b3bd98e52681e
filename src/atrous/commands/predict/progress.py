"""Progress of prediction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Console

from atrous.commands.predict.pipeline import Result
from atrous.terminal import track


def with_progress(results: Iterable[Result], total: int, console: Console) -> Iterator[Result]:
    """Pass results on and show how many there are, and how many failed.

    Args:
        results: What is counted.
        total: How many there will be.
        console: Where to show it.

    Yields:
        The results.
    """
    failed = 0

    def count_failures(result: Result) -> str:
        nonlocal failed
        failed += result.failure is not None
        return f"{failed} failed" if failed else ""

    return track(results, "predicting", total=total, console=console, note=count_failures)
