"""Resolvers for configuration files: the project's folder, and folders for runs."""

from __future__ import annotations

from omegaconf import OmegaConf

from atrous.composition.exits import one_sentence
from atrous.places import project
from atrous.runs import claim_folder, run_of


def register_resolvers() -> None:
    """Register three resolvers for configuration files.

    ``${project:}`` is the folder that ``data/`` and ``logs/`` are in, ``${new_folder:parent}`` a folder of this process
    alone, named after the time, and ``${run_folder:parent,ckpt_path}`` the same, or the folder of the resumed run.
    """
    OmegaConf.register_new_resolver("project", lambda: str(project()), replace=True)
    OmegaConf.register_new_resolver("new_folder", _new_folder, use_cache=True, replace=True)
    OmegaConf.register_new_resolver("run_folder", _run_folder, use_cache=True, replace=True)


def _new_folder(parent: str) -> str:
    with one_sentence():  # Hydra asks for the folder before it calls our error handling
        return str(claim_folder(parent))


def _run_folder(parent: str, ckpt_path: str | None) -> str:
    """A new folder for a new run; the old one for a resumed run."""
    run = None if ckpt_path is None else run_of(ckpt_path)
    return _new_folder(parent) if run is None else str(run)
