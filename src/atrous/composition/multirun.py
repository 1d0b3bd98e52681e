"""What happens around the runs of a multirun."""

from __future__ import annotations

import shlex
import sys
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from atrous.places import command


class ComparisonPage(Callback):
    """Writes a page that compares the trainings of a multirun when all of them have ended."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write it into the folder of the multirun."""
        from atrous.reports.pages import write_multirun_page  # who reads a command line does not wait for it
        from atrous.terminal import open_console, say

        repeat = " ".join([command(str(config.hydra.job.config_name)), *map(shlex.quote, sys.argv[1:])])
        path = write_multirun_page(config.hydra.sweep.dir, command=repeat)
        if path is not None:
            say(open_console(), f"all runs on one page: {path}")
