"""Where things are: beside the sources in a checkout; in the package and the working folder when installed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_INSTALLED = (_PACKAGE / "conf").is_dir()

CONFIGURATION = _PACKAGE / "conf" if _INSTALLED else _PACKAGE.parents[1] / "conf"
"""The folder of the configuration files."""


IMPORTED_FROM = _PACKAGE.parent
"""The folder that a Python has to know to import the package."""

CHECKOUT = None if _INSTALLED else CONFIGURATION.parent
"""The checkout that the package is used from, if it is."""


def choices(group: str) -> list[str]:
    """Names of the files of a group of the configuration, such as the models."""
    return sorted(path.stem for path in (CONFIGURATION / group).glob("*.yaml") if path.stem != "default")


def project() -> Path:
    """The folder that ``data/`` and ``logs/`` are in: the checkout, or where an installed command was started."""
    return Path.cwd() if _INSTALLED else CONFIGURATION.parent


def setting(key: str, value: str | Path) -> str:
    """How a setting is written in a shell, such as ``data.root=/data/VOC``; quoted where a shell or Hydra needs it."""
    word = override(key, value)
    if word == f"{key}={value}":
        return word
    return shlex.quote(word) if re.search(r'[$`\\"!]', word) else f'"{word}"'


def override(key: str, value: str | Path) -> str:
    """A setting as Hydra reads it, quoted where it needs that."""
    text = str(value)
    return f"{key}={text if re.fullmatch(r'[A-Za-z0-9_./:%+-]+', text) else quoted(text)}"


def quoted(text: str) -> str:
    """Text as the value of a setting, whatever signs are in it; to Hydra a backslash is one, but before a quote."""
    escaped = re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + found[2].replace("'", "\\'"), text)
    return f"'{escaped}'"


def command(name: str) -> str:
    """How a command is called from a shell, such as ``python src/train.py``."""
    return f"atrous {name}" if _INSTALLED else f"python src/{name}.py"
