"""What is made once before training: one module a task, each with a function `run`."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console

from atrous.data.data_module import SegmentationDataModule
from atrous.errors import AtrousError
from atrous.signatures import require_arguments

TASKS = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def run_task(
    name: str, options: Mapping[str, Any], console: Console, *, data: Callable[[], SegmentationDataModule]
) -> dict[str, Any]:
    """Run a task.

    Args:
        name: One of `TASKS`.
        options: Arguments of the task's `run`.
        console: Where the task says what it does.
        data: Builds the data set at hand; called for those tasks only whose `run` takes `data`.

    Returns:
        The result as plain values, for JSON.

    Raises:
        AtrousError: There is no such task, or an option is unknown or of another type.
    """
    if name not in TASKS:
        raise AtrousError(f"there is no preparation task={name!r}; choose one of {', '.join(TASKS)}")
    run = importlib.import_module(f"{__name__}.{name}").run
    require_arguments(run, options, of=name)
    known = inspect.signature(run).parameters
    result: dict[str, Any] = run(console, **({"data": data()} if "data" in known else {}), **options)
    return result
