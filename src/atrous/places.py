"""Where things are: beside the sources in a checkout; in the package and the working folder when installed."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_INSTALLED = (_PACKAGE / "conf").is_dir()

CONFIGURATION = _PACKAGE / "conf" if _INSTALLED else _PACKAGE.parents[1] / "conf"
"""The folder of the configuration files."""


CHECKOUT = None if _INSTALLED else CONFIGURATION.parent
"""The checkout that the package is used from, if it is."""


def choices(group: str) -> list[str]:
    """Names of the files of a group of the configuration, such as the models."""
    return sorted(path.stem for path in (CONFIGURATION / group).glob("*.yaml") if path.stem != "default")


def project() -> Path:
    """The folder that ``data/`` and ``logs/`` are in: the checkout, or where an installed command was started."""
    return Path.cwd() if _INSTALLED else CONFIGURATION.parent


def command(name: str) -> str:
    """How a command is called from a shell, such as ``python src/train.py``."""
    return f"atrous {name}" if _INSTALLED else f"python src/{name}.py"
