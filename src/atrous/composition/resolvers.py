"""Resolvers for configuration files: the project's folder, folders for runs, and the parts of a mixed data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from atrous.composition.exits import one_sentence
from atrous.errors import AtrousError
from atrous.places import CONFIGURATION, project
from atrous.runs import claim_folder, run_of


def register_resolvers() -> None:
    """Register four resolvers for configuration files.

    ``${project:}`` is the folder that ``data/`` and ``logs/`` are in, ``${new_folder:parent}`` a folder of this process
    alone, named after the time, and ``${run_folder:parent,ckpt_path}`` the same, or the folder of the resumed run.
    ``${of_each:parts,key}`` is what the data set of each name has under ``data.<key>``.
    """
    OmegaConf.register_new_resolver("project", lambda: str(project()), replace=True)
    OmegaConf.register_new_resolver("new_folder", _new_folder, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("run_folder", _run_folder, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("of_each", _of_each, replace=True)


def _new_folder(parent: str) -> str:
    with one_sentence():  # Hydra asks for the folder before it calls our error handling
        return str(claim_folder(parent))


def _run_folder(parent: str, ckpt_path: str | None) -> str:
    """A new folder for a new run; the old one for a resumed run."""
    run = None if ckpt_path is None else run_of(ckpt_path)
    return _new_folder(parent) if run is None else str(run)


def _of_each(parts: Mapping[str, float] | None, key: str) -> DictConfig:
    """A setting of every data set that is named, as its file in ``conf/data`` has it, or as all have it."""
    with one_sentence():
        return OmegaConf.create({name: _of_data_set(name, key) for name in parts or {}})


def _of_data_set(name: str, key: str) -> Any:
    files = sorted((CONFIGURATION / "data").glob("*.yaml"))
    settings = {path.stem: _as_written(path)["data"] for path in files}
    default = settings.pop("default")
    known = [each for each, data in settings.items() if each != "mix" and data.get("root", "") is not None]
    if name not in known:
        raise AtrousError(f"data.parts: there are no files of a data set {name!r}; choose from {', '.join(known)}")
    return _as_plain(OmegaConf.merge(*({key: data[key]} for data in (default, settings[name]) if key in data)))[key]


def _as_written(path: Path) -> dict[str, Any]:
    return _as_plain(OmegaConf.load(path))


def _as_plain(config: Any) -> dict[str, Any]:
    return cast(dict[str, Any], OmegaConf.to_container(config, resolve=False))
