"""The record of benchmark runs: one line of JSON for each, in one file for each suite."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from atrous.errors import AtrousError

WORSE = 0.9
"""A ratio that fell below this share of what it was is a complaint."""


def append(folder: str | Path, result: dict[str, Any]) -> Path:
    """Add a run to the record of its suite; of files it names, the names alone are kept.

    Args:
        folder: Where the records are.
        result: The suite's result, with its name and the machine.

    Returns:
        The file.
    """
    path = Path(folder) / f"{result['suite']}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="seconds"), **_kept(result)})
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    return path


def read(folder: str | Path, suite: str) -> list[dict[str, Any]]:
    """All runs of a suite, oldest first.

    Raises:
        AtrousError: There is no record, or a line of it is not JSON.
    """
    path = Path(folder) / f"{suite}.jsonl"
    if not path.is_file():
        raise AtrousError(f"there is no record of suite={suite} in {folder}; run the suite first")
    runs = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            runs.append(json.loads(line))
        except ValueError as error:
            raise AtrousError(f"line {number} of {path} is not JSON ({error})") from None
    return runs


def run_of(runs: list[dict[str, Any]], number: int) -> dict[str, Any]:
    """A run by its number, from 0 for the oldest, or from -1 for the newest.

    Raises:
        AtrousError: There are fewer runs.
    """
    if not -len(runs) <= number < len(runs):
        raise AtrousError(f"there is no run {number} among {len(runs)}; run the suite again")
    return runs[number]


def ratios(run: dict[str, Any]) -> dict[str, float]:
    """The ratio of every row that has one, by the row's name."""
    return {row["case"]: row["ratio"] for row in run["rows"] if row.get("ratio") is not None}


def geometric_mean(values: list[float]) -> float:
    """Geometric mean of positive numbers."""
    return math.exp(sum(map(math.log, values)) / len(values))


def _kept(value: Any) -> Any:
    """Four digits of every float, more are noise; and no folders: the record is kept in the repository."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, str) and Path(value).is_absolute():
        return Path(value).name
    if isinstance(value, dict):
        return {key: _kept(each) for key, each in value.items()}
    return [_kept(each) for each in value] if isinstance(value, list | tuple) else value
