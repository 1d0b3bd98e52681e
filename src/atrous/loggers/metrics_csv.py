"""metrics.csv: the whole curve of a run in one plain file, even after the run was killed and resumed."""

from __future__ import annotations

import csv
import io
import os
from argparse import Namespace
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

Row = dict[str, str]


class MetricsCSV(Logger):
    """Writes a row per step to ``<run_dir>/metrics.csv``: ``step``, ``epoch``, then every metric that was ever logged.

    Metrics that arrive for the same step share a row. Every call leaves a whole file on disk: a row is appended, or the
    last one replaced, in one write; a new column rewrites the file beside the old one and swaps them.

    A run that continues in the same folder keeps the existing rows, except those of work that it repeats: when
    the first step that it logs is s, rows after s go, and row s is refilled. A run that was interrupted and resumed
    thus leaves the same file as one that was not. A new run starts at its first step and so replaces an old file.

    Args:
        run_dir: Folder of the run; created when the first metric arrives.
    """

    def __init__(self, run_dir: str | Path) -> None:
        super().__init__()
        self._folder = Path(run_dir)
        self._columns = ["step", "epoch"]
        self._rows: list[Row] = []
        self._started = False
        self._last_row_at = 0

    @property
    def path(self) -> Path:
        """The file."""
        return self._folder / "metrics.csv"

    @property
    def name(self) -> str:
        """Kind of the logger."""
        return "metrics_csv"

    @property
    def version(self) -> str:
        """Empty: a run folder has one such file."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self._folder)

    @property
    def root_dir(self) -> str:
        """The run folder."""
        return str(self._folder)

    @property
    def log_dir(self) -> str:
        """The run folder."""
        return str(self._folder)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the run folder holds config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write numbers into the row of a step.

        Args:
            metrics: Names and values; ``epoch`` may be among them.
            step: Index of the training step; without it, the row that was written last.
        """
        if step is None:
            step = int(self._rows[-1]["step"]) if self._rows else 0
        if not self._started:
            self._take_over(step)
            self._started = True
        values = {name: _as_text(value) for name, value in metrics.items() if name != "step"}
        new_columns = [name for name in values if name not in self._columns]
        self._columns += new_columns

        row, is_new = self._row(step)
        row |= values
        if new_columns or row is not self._rows[-1]:
            self._rewrite()
        else:
            self._write_last(append=is_new)

    def _take_over(self, step: int) -> None:
        """Read the rows of an earlier start, drop those after ``step``, and leave a whole file with the rest."""
        self._folder.mkdir(parents=True, exist_ok=True)
        columns, rows = read_rows(self.path)
        self._rows = [row for row in rows if int(row["step"]) <= step]
        if self._rows:
            self._columns += [name for name in columns if name not in self._columns]
        self._rewrite()

    def _row(self, step: int) -> tuple[Row, bool]:
        """The row of a step, and whether it was made just now."""
        for row in reversed(self._rows):
            if int(row["step"]) == step:
                return row, False
            if int(row["step"]) < step:
                break
        row = {"step": str(step)}
        self._rows.append(row)
        self._rows.sort(key=lambda each: int(each["step"]))
        return row, True

    def _text(self, row: Row) -> bytes:
        return _line(row.get(name, "") for name in self._columns)

    def _rewrite(self) -> None:
        lines = [_line(self._columns), *map(self._text, self._rows)]
        fresh = self.path.with_name(f"{self.path.name}.new")
        fresh.write_bytes(b"".join(lines))
        fresh.replace(self.path)
        self._last_row_at = sum(map(len, lines[:-1]))

    def _write_last(self, *, append: bool) -> None:
        with self.path.open("r+b") as file:
            if append:
                self._last_row_at = file.seek(0, os.SEEK_END)
            file.seek(self._last_row_at)
            file.write(self._text(self._rows[-1]))
            file.truncate()


def read_rows(path: str | Path) -> tuple[list[str], list[Row]]:
    """Columns and rows of a metrics.csv in their order; values stay text, and empty ones are left out.

    Args:
        path: The file; one that does not exist has no columns and no rows. A last line that was cut off while it was
            being written is not a row.
    """
    path = Path(path)
    if not path.is_file():
        return [], []
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    lines = list(csv.reader(io.StringIO(whole)))
    if not lines or lines[0][:1] != ["step"]:
        return [], []
    columns = lines[0]
    rows = [
        {name: value for name, value in zip(columns, line, strict=True) if value}
        for line in lines[1:]
        if len(line) == len(columns) and line[0].isdigit()
    ]
    return columns, rows


def _as_text(value: float) -> str:
    number = float(value)
    return str(int(number)) if number.is_integer() and abs(number) < 2**53 else repr(number)


def _line(values: Iterable[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue().encode()
