"""What a program prints while it works: one console, and one bar for everything that takes long."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

Item = TypeVar("Item")
_WIDTH_OF_FILES = 160


def open_console() -> Console:
    """Standard output, as wide as the terminal; wider in a file, where tables must be readable too."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_WIDTH_OF_FILES)


def say(console: Console, line: str) -> None:
    """Print a line as it is: paths are not broken, and brackets are not markup."""
    console.print(line, soft_wrap=True, highlight=False, markup=False)


def make_bars(console: Console) -> Progress:
    """Bars with description, count, time and a note; every task needs a field ``note``."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        refresh_per_second=4,
    )


def track(
    items: Iterable[Item],
    description: str,
    *,
    total: int,
    console: Console | None = None,
    note: Callable[[Item], str] | None = None,
    lines: int = 10,
) -> Iterator[Item]:
    """Pass items on and show how many there were: a bar in a terminal, a few plain lines in a log file.

    Args:
        items: What is counted.
        description: What is done with them.
        total: How many there will be.
        console: Where to show it; ``None`` for standard output.
        note: Called with each item; returns extra text for the bar.
        lines: Lines in a log file, at most.

    Yields:
        The items.
    """
    console = console or open_console()
    if not console.is_terminal:
        step = max(1, -(-total // lines))
        for done, item in enumerate(items, start=1):
            yield item
            if done % step == 0 or done == total:
                say(console, f"{description}: {done}/{total}")
        return
    with make_bars(console) as bars:
        task = bars.add_task(description, total=total, note="")
        for item in items:
            yield item
            bars.update(task, advance=1, note="" if note is None else note(item))


def track_bytes(
    chunks: Iterable[bytes], description: str, *, done: int, total: int | None, console: Console | None = None
) -> Iterator[bytes]:
    """Pass on what arrives and show how many bytes there were: a bar in a terminal, a few plain lines in a log file.

    Args:
        chunks: What arrives.
        description: What is done with it.
        done: Bytes that were there before.
        total: Bytes that there will be; ``None`` if nobody knows.
        console: Where to show it; ``None`` for standard output.

    Yields:
        The chunks.
    """
    console = console or open_console()
    if not console.is_terminal:
        shown = -1
        for chunk in chunks:
            yield chunk
            done += len(chunk)
            tenth = 10 * done // total if total else 0
            if tenth > shown:
                share = f"{100 * done // total} % of " if total else ""
                say(console, f"{description}: {share}{(total or done) / 2**20:.0f} MiB")
                shown = tenth
        return
    columns = (BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(TextColumn("{task.description}"), *columns, console=console, refresh_per_second=4) as bars:
        task = bars.add_task(description, total=total, completed=done)
        for chunk in chunks:
            yield chunk
            bars.update(task, advance=len(chunk))


class StageProgress:
    """A bar for every stage of a job whose stages all have the same length; one line each in a log file.

    Args:
        console: Where they are shown.
        total: Steps of a stage.
        prefix: Words before the name of each stage.
    """

    def __init__(self, console: Console, total: int, *, prefix: str = "") -> None:
        self._console = console
        self._bars = make_bars(console) if console.is_terminal else None
        self._total = total
        self._prefix = prefix
        self._tasks: dict[str, TaskID] = {}
        self._done: dict[str, int] = {}

    def __enter__(self) -> StageProgress:
        """Start drawing."""
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop drawing."""
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, stage: str) -> None:
        """Count a step of a stage."""
        self._done[stage] = self._done.get(stage, 0) + 1
        if self._bars is None:
            if self._done[stage] == self._total:
                say(self._console, f"{self._prefix}{stage}: {self._total}/{self._total}")
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(self._prefix + stage, total=self._total, note="")
        self._bars.advance(self._tasks[stage])
