"""The installed command: ``atrous train model=deeplabv3plus`` is ``python src/train.py model=deeplabv3plus``."""

from __future__ import annotations

import importlib
import sys

COMMANDS = {
    "train": "train a segmentation model",
    "evaluate": "score a checkpoint",
    "predict": "label images",
    "prepare": "prepare what training needs, import weights",
    "search": "search for good settings of a CRF, or for an architecture",
    "export": "write a network into a file that runs elsewhere",
    "demo": "open a page to try a network",
    "sweep": "ask a question with several seeds",
    "figures": "draw what explains the methods",
    "benchmark": "compare Atrous with a named peer",
}
_USAGE = "\n".join(
    ["usage: atrous <command> [key=value ...]", *(f"  atrous {name:<10} {what}" for name, what in COMMANDS.items())]
)


def main() -> None:
    """Call the command that the first argument names with the remaining arguments."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        print(_USAGE)
        return
    if name not in COMMANDS:
        print(f"error: there is no command {name!r}; choose one of {', '.join(COMMANDS)}", file=sys.stderr)
        sys.exit(2)
    command = importlib.import_module(f"atrous.commands.{name}")
    # several processes are started by the program's file and its arguments, which must stand for this command alone
    sys.argv = [str(command.__file__), *sys.argv[2:]]
    command.main()


if __name__ == "__main__":
    main()
