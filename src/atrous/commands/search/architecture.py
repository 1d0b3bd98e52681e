"""Searching for an architecture: a training whose steps come from two halves of the data."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from atrous.commands.train.command import train
from atrous.composition import Config
from atrous.composition.architecture_search import as_training
from atrous.memory import peak_memory
from atrous.places import command
from atrous.terminal import open_console, say


def search_architecture(config: Config) -> None:
    """Search, and say where the genotype is and what the search took."""
    began = time.perf_counter()
    task = train(as_training(config))
    if not task.trainer.is_global_zero:
        return
    memory = torch.cuda.max_memory_allocated(task.device) if task.device.type == "cuda" else peak_memory()
    found, console = Path(config.paths.run) / "genotype.yaml", open_console()
    say(console, f"genotype written to {found}: {command('train')} model=auto_deeplab backbone.genotype={found}")
    say(console, f"{time.perf_counter() - began:.0f} s, at most {memory / 2**30:.2f} GiB of memory")
