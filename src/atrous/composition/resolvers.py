"""Resolvers for configuration files: the project's folder, folders for runs, and the parts of a mixed data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from atrous.composition.exits import one_sentence
from atrous.errors import AtrousError
from atrous.launch import find_launch
from atrous.places import CONFIGURATION, project
from atrous.runs import claim_folder, run_of

_DATA_SETS = CONFIGURATION / "data"


def register_resolvers() -> None:
    """Register the resolvers of configuration files.

    ``${project:}`` is the folder that ``data/`` and ``logs/`` are in, ``${new_folder:parent}`` a folder of this process
    and of those that a launcher started with it, named after the time, and ``${run_folder:parent,ckpt_path}`` the same,
    or the folder of the resumed run. ``${of_each:parts,key}`` is what the data set of each name has under
    ``data.<key>``. ``${multirun_folder:logs,study}`` is a new folder for many runs, or that of a search which has a
    name and may go on. ``${multirun:}`` is the name of the multirun's folder, or null outside one.
    """
    OmegaConf.register_new_resolver("project", lambda: str(project()), replace=True)
    OmegaConf.register_new_resolver("new_folder", _new_folder, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("run_folder", _run_folder, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("multirun_folder", _multirun_folder, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("of_each", _of_each, replace=True)
    OmegaConf.register_new_resolver("multirun", _multirun, replace=True)


def _new_folder(parent: str) -> str:
    with one_sentence():  # Hydra asks for the folder before it calls our error handling
        launch = find_launch()
        return str(claim_folder(parent) if launch is None else launch.folder(Path(parent), claim_folder))


def _run_folder(parent: str, ckpt_path: str | None) -> str:
    """A new folder for a new run; the old one for a resumed run."""
    run = None if ckpt_path is None else run_of(ckpt_path)
    return _new_folder(parent) if run is None else str(run)


def _multirun_folder(logs: str, study: str | None) -> str:
    return _new_folder(f"{logs}/multirun") if study is None else f"{logs}/studies/{study}"


def _multirun() -> str | None:
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return None
    return Path(HydraConfig.get().sweep.dir).name


def _of_each(parts: Mapping[str, float] | None, key: str) -> DictConfig:
    """A setting of every data set that is named, as its file in ``conf/data`` has it, or as all have it."""
    with one_sentence():
        return OmegaConf.create({name: _of_data_set(name, key) for name in parts or {}})


def _of_data_set(name: str, key: str) -> Any:
    stems = sorted(path.stem for path in _DATA_SETS.glob("*.yaml") if path.stem not in ("default", "mix"))
    known = [stem for stem in stems if _settings(stem).get("root", "") is not None]
    if name not in known:
        raise AtrousError(f"data.parts: there are no files of a data set {name!r}; choose from {', '.join(known)}")
    return _settings(name)[key]


def _settings(name: str) -> dict[str, Any]:
    """``data`` of a file and of those that it begins with, not resolved."""
    file = cast(DictConfig, OmegaConf.load(_DATA_SETS / f"{name}.yaml"))
    before = [_settings(each) for each in file.get("defaults", ()) if isinstance(each, str) and each != "_self_"]
    own = OmegaConf.to_container(file, resolve=False)
    merged = OmegaConf.merge(*before, cast(dict[str, Any], own).get("data", {}))
    return cast(dict[str, Any], OmegaConf.to_container(merged, resolve=False))
