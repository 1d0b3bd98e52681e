"""Running one task of search."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from atrous.commands.search import tasks
from atrous.composition import ARCHITECTURE, Config, plain, require_types
from atrous.errors import AtrousError
from atrous.runs import locked
from atrous.signatures import require_arguments
from atrous.terminal import open_console

TASKS = tasks.NAMES


def search(config: Config) -> None:
    """Run one task, in a new folder or in that of an earlier search that did not end.

    Raises:
        AtrousError: There is no such task, an option is unknown or of the wrong type, or there is nothing to resume.
    """
    require_types(config, {"task": str, "resume": str | None})
    if config.task not in TASKS:
        raise AtrousError(f"there is no search task={config.task}; choose one of {', '.join((ARCHITECTURE, *TASKS))}")
    run = importlib.import_module(f"{tasks.__name__}.{config.task}").run
    options = plain(config).get(config.task) or {}
    require_arguments(run, options, of=config.task)
    folder = Path(config.resume or config.paths.run)
    if config.resume is not None and not folder.is_dir():
        raise AtrousError(f"resume={folder} is no folder of an earlier search")
    with locked(folder):
        try:
            run(open_console(), config=config, folder=folder, **options)
        except KeyboardInterrupt:
            print(f"interrupted: the same command with resume={folder} resumes", file=sys.stderr)
            sys.exit(130)
