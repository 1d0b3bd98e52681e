"""What a run was: configuration, overrides, commit and machine, written before it starts."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from rich.tree import Tree

from atrous.machine import describe


def record_run(
    run_dir: str | Path, config: Mapping[str, Any], overrides: Sequence[str], repository: Path | None
) -> None:
    """Write ``config.yaml``, ``overrides.yaml``, ``git_commit.txt`` and ``environment.json`` into a run's folder.

    Args:
        run_dir: The run's folder.
        config: The resolved configuration as plain data.
        overrides: Command-line overrides.
        repository: Checkout whose commit is recorded; ``None`` for the version of the installed package.
    """
    folder = Path(run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "config.yaml": yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True),
        "overrides.yaml": yaml.safe_dump(list(overrides), allow_unicode=True),
        "git_commit.txt": git_commit(repository) + "\n",
        "environment.json": json.dumps(describe(), indent=2) + "\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


def config_tree(config: Mapping[str, Any]) -> Tree:
    """The configuration as a tree, one branch per group."""
    tree = Tree("configuration", guide_style="dim")
    for name, node in config.items():
        _grow(tree, str(name), node)
    return tree


def git_commit(repository: Path | None) -> str:
    """Hash of the checked-out commit, with ``+changes`` if files differ from it; ``unknown`` outside a checkout."""
    if repository is None:
        return f"atrous {metadata.version('atrous')}, installed"
    try:
        commit = _git(repository, "rev-parse", "HEAD")
        changed = _git(repository, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+changes" if changed else "")


def _grow(tree: Tree, name: str, node: Any) -> None:
    if isinstance(node, Mapping) and node:
        branch = tree.add(f"[bold]{name}[/bold]")
        for key, value in node.items():
            _grow(branch, str(key), value)
    else:
        value = node if isinstance(node, str) else json.dumps(node)
        tree.add(f"{name}: {value}", style="default")


def _git(repository: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=repository, check=True, capture_output=True)
    return done.stdout.decode(errors="replace").strip()
