"""Time us and a named peer side by side: ``python src/benchmark.py suite=augment``."""

from __future__ import annotations

import json
from pathlib import Path

import hydra
from omegaconf import DictConfig
from rich.console import Console

from atrous.benchmarks import run_suite
from atrous.composition import explained, plain, register_resolvers, require_types

register_resolvers()


@hydra.main(version_base="1.3", config_path="../conf", config_name="benchmark")
@explained
def main(config: DictConfig) -> None:
    """Run one suite, print its table and write its figures to the run's folder."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)  # tables are to be read in a file too
    require_types(config, {"suite": str})
    result = run_suite(config.suite, plain(config).get(config.suite) or {}, console)
    path = Path(config.paths.run) / f"{config.suite}.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    console.print(f"written to {path}")


if __name__ == "__main__":
    main()
