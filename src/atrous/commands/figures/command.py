"""Drawing figures for pages."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from atrous.commands.figures import drawings
from atrous.commands.figures.source import Missing, Source
from atrous.composition import Config, require_types
from atrous.errors import AtrousError
from atrous.reports.theme import Theme, write_figures
from atrous.terminal import open_console, say


def figures(config: Config) -> None:
    """Draw one figure, several, or all.

    Raises:
        AtrousError: There is no such figure, or one that is named needs a network and there is none; of all figures,
            such a one is left out.
    """
    require_types(config, {"name": str | list[str], "output": str, "real": str, "ckpt_path": str | None, "sweeps": str})
    asked = [config.name] if isinstance(config.name, str) else list(config.name)
    everything = asked == ["all"]
    names = list(drawings.NAMES) if everything else asked
    for name in names:
        if name not in drawings.NAMES:
            raise AtrousError(f"there is no figure name={name}; choose all, or from {', '.join(drawings.NAMES)}")
    source = Source(config.real, ckpt_path=config.ckpt_path, runs=config.paths.runs, sweeps=config.sweeps)
    console = open_console()
    for number, name in enumerate(names, start=1):
        compute: Callable[[Source], Callable[[Theme], Figure]]
        compute = importlib.import_module(f"{drawings.__name__}.{name}").figure
        try:
            draw = compute(source)
        except Missing as missing:
            if not everything:
                raise
            say(console, f"{number} of {len(names)}: {name} is left out: {missing}")
            continue
        files = write_figures(Path(config.output), name, draw)
        say(console, f"{number} of {len(names)}: {files[0]}, and {len(files) - 1} more for dark pages and as PNG")
