"""How far prediction is: a bar in a terminal, a few plain lines in a log file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from atrous.prediction.pipeline import Result

_LINES = 10


def with_progress(results: Iterable[Result], total: int, console: Console) -> Iterator[Result]:
    """Pass results on and show how many there are.

    Args:
        results: What is counted.
        total: How many there will be.
        console: Where to show it.

    Yields:
        The results.
    """
    if not console.is_terminal:
        step = max(1, -(-total // _LINES))
        for done, result in enumerate(results, start=1):
            yield result
            if done % step == 0 or done == total:
                console.print(f"predicting: image {done}/{total}")
        return
    columns = (
        TextColumn("predicting"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failed]}"),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("predicting", total=total, failed="")
        failed = 0
        for result in results:
            failed += result.failure is not None
            bar.update(task, advance=1, failed=f"{failed} failed" if failed else "")
            yield result
