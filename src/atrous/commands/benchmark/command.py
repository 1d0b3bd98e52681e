"""Running one suite of benchmarks."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from atrous.commands.benchmark import suites
from atrous.commands.benchmark.history import append
from atrous.commands.benchmark.machine import describe, lines, measure
from atrous.composition import Config, plain, require_types
from atrous.errors import AtrousError
from atrous.signatures import require_arguments
from atrous.terminal import open_console, say

SUITES = suites.NAMES


def run_suite(name: str, options: Mapping[str, Any], console: Console) -> dict[str, Any]:
    """Run a suite.

    Args:
        name: One of ``SUITES``.
        options: Arguments of the suite's ``run``.
        console: Where the suite prints its table.

    Returns:
        The result as plain values, for JSON.

    Raises:
        AtrousError: There is no such suite, or an option is unknown or of the wrong type.
    """
    if name not in SUITES:
        raise AtrousError(f"there is no benchmark suite {name!r}; choose one of {', '.join(SUITES)}")
    run = importlib.import_module(f"{suites.__name__}.{name}").run
    require_arguments(run, options, of=name)
    result: dict[str, Any] = run(console, **options)
    return result


def benchmark(config: Config) -> None:
    """Run one suite, print its table, and keep its figures in the run's folder and in the record of all runs."""
    console = open_console()
    require_types(config, {"suite": str, "record": (str, type(None))})
    options = plain(config).get(config.suite) or {}
    result = run_suite(config.suite, options, console)
    timed = config.suite in suites.TIMED
    machine = {**describe(), **(measure() if timed else {})}
    for line in lines(machine) if timed else ():
        say(console, line)
    result |= {"options": options, "machine": machine}
    path = Path(config.paths.run) / f"{config.suite}.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    say(console, f"written to {path}")
    if config.record is not None and timed:
        say(console, f"added to {append(config.record, result)}")
