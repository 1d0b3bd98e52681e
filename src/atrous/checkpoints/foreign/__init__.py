"""Third-party weights translated to ours: one module per source, each with a function ``translate``."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from atrous.checkpoints.foreign._translation import Translation
from atrous.errors import AtrousError
from atrous.models.backbones.pretrained import read_state_dict

SOURCES = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")))

__all__ = ["SOURCES", "Translation", "translate", "translate_file"]


def translate(source: str, state: Mapping[str, Tensor], **options: Any) -> Translation:
    """Turn a foreign state dict into one of ours.

    Args:
        source: One of ``SOURCES``.
        state: Its tensors by their own names.
        options: What the tensors do not show; see the source's ``translate``.

    Raises:
        AtrousError: There is no such source, it has no such option, or the tensors are not those of a network that it
            knows.
    """
    function = _module(source).translate
    known = [name for name in inspect.signature(function).parameters if name != "state"]
    for option in options:
        if option not in known:
            raise AtrousError(
                f"source={source} has no option {option!r}; it has {', '.join(known) or 'none: its form is fixed'}"
            )
    result: Translation = function(state, **options)
    return result


def translate_file(source: str, path: str | Path, **options: Any) -> Translation:
    """Turn a foreign file into a state dict of ours; see ``translate``."""
    read = getattr(_module(source), "read", read_state_dict)
    return translate(source, read(Path(path).expanduser()), **options)


def _module(source: str) -> Any:
    if source not in SOURCES:
        raise AtrousError(f"source={source!r} is unknown; choose one of {', '.join(SOURCES)}")
    return importlib.import_module(f"{__name__}.{source}")
