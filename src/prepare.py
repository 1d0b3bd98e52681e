"""Make what training needs beforehand: ``python src/prepare.py task=dupsampling data=voc dupsampling.ratio=16``."""

from __future__ import annotations

import json
from pathlib import Path

import hydra
from omegaconf import DictConfig
from rich.console import Console

from atrous.composition import build_data, explained, plain, register_resolvers, require_types
from atrous.preparation import run_task

register_resolvers()


def prepare(config: DictConfig) -> None:
    """Run one task and write its figures to the run's folder."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)  # tables are to be read in a file too
    require_types(config, {"task": str})
    options = plain(config).get(config.task) or {}
    result = run_task(config.task, options, console, data=lambda: build_data(config.data))
    path = Path(config.paths.run) / f"{config.task}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    console.print(f"figures written to {path}")


@hydra.main(version_base="1.3", config_path="../conf", config_name="prepare")
@explained
def main(config: DictConfig) -> None:
    """Compose and prepare."""
    prepare(config)


if __name__ == "__main__":
    main()
