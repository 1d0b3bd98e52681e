"""Running one task of preparation."""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from atrous.commands.prepare import tasks
from atrous.composition import Config, plain, require_types
from atrous.composition.parts import build_data
from atrous.data import SegmentationDataModule
from atrous.errors import AtrousError
from atrous.signatures import require_arguments
from atrous.terminal import open_console, say

TASKS = tasks.NAMES
_SECTIONS = {"data": "preparation"}
"""Options of a task whose name is a part of the configuration already."""


def run_task(
    name: str, options: Mapping[str, Any], console: Console, *, data: Callable[[], SegmentationDataModule]
) -> dict[str, Any]:
    """Run a task.

    Args:
        name: One of ``TASKS``.
        options: Arguments of the task's ``run``.
        console: Where the task says what it does.
        data: Builds the selected data set; called only for tasks whose ``run`` takes ``data``.

    Returns:
        The result as plain values, for JSON.

    Raises:
        AtrousError: There is no such task, or an option is unknown or of the wrong type.
    """
    if name not in TASKS:
        raise AtrousError(f"there is no preparation task={name!r}; choose one of {', '.join(TASKS)}")
    run = importlib.import_module(f"{tasks.__name__}.{name}").run
    require_arguments(run, options, of=name)
    known = inspect.signature(run).parameters
    result: dict[str, Any] = run(console, **({"data": data()} if "data" in known else {}), **options)
    return result


def prepare(config: Config) -> None:
    """Run one task and write its figures to the run's folder; with status 1 where it found problems."""
    console = open_console()
    require_types(config, {"task": str})
    options = plain(config).get(_SECTIONS.get(config.task, config.task)) or {}
    result = run_task(config.task, options, console, data=lambda: build_data(config.data))
    path = Path(config.paths.run) / f"{config.task}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    say(console, f"figures written to {path}")
    if result.get("problems"):
        sys.exit(1)
