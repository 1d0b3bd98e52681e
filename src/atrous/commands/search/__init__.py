"""Search for good settings: ``python src/search.py task=crf ckpt_path=<run>``; one module per task.

The search for an architecture is a training of its own kind, with a configuration of its own.
"""

from __future__ import annotations

import sys

from atrous.composition import ARCHITECTURE, continue_recorded_run, entry_point, exit_with_one_sentence

_CONFIGURATION = f"search_{ARCHITECTURE}"
_search = entry_point("search", "atrous.commands.search.command:search")
_search_architecture = entry_point(_CONFIGURATION, "atrous.commands.search.architecture:search_architecture")


def main() -> None:
    """Search from the command line; with ``ckpt_path``, a search for an architecture goes on as it was started."""
    if f"task={ARCHITECTURE}" not in sys.argv[1:]:
        _search()
        return
    continued = exit_with_one_sentence(continue_recorded_run)
    sys.argv[1:] = continued(sys.argv[1:], config_name=_CONFIGURATION)
    _search_architecture()
