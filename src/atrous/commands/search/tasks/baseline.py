"""Genotypes to compare a search with: random ones, and others with one operation everywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Console

from atrous.composition import Config
from atrous.errors import AtrousError, require_range
from atrous.models.nas import Genotype, Operation, Trellis
from atrous.models.nas.decoding import random_genotype, uniform_genotype
from atrous.terminal import say


def run(
    console: Console,
    *,
    config: Config,
    folder: Path,
    genotype: str | None = None,
    operation: str | None = None,
    layers: int = 12,
    blocks: int = 5,
    output: str | None = None,
) -> None:
    """Write a genotype: a random one, each with the same probability, or another one with its operations replaced.

    Args:
        console: Where the genotype is printed.
        config: The whole configuration; its ``seed`` decides what is drawn.
        folder: Where results go.
        genotype: File of the genotype whose operations are replaced; ``None`` to draw one.
        operation: Takes the place of all operations; ``None`` to leave them.
        layers: Layers of a genotype that is drawn.
        blocks: Blocks of a genotype that is drawn.
        output: File of the genotype; ``None`` for ``genotype.yaml`` in the folder.

    Raises:
        AtrousError: There is no such operation or file, or a number is out of range.
    """
    require_range("baseline.layers", layers, at_least=1)
    require_range("baseline.blocks", blocks, at_least=1)
    require_range("seed", config.seed, at_least=0)
    if operation is not None and operation not in list(Operation):
        raise AtrousError(f"baseline.operation={operation} is unknown; choose one of {', '.join(Operation)}")
    if genotype is None:
        made = random_genotype(Trellis(layers), blocks, np.random.default_rng(config.seed))
        heading = f"Drawn at random with seed {config.seed}."
    else:
        made, heading = Genotype.of(genotype), f"From {genotype}."
    if operation is not None:
        made, heading = uniform_genotype(made, Operation(operation)), f"{heading} All operations are {operation}."
    target = Path(output or folder / "genotype.yaml")
    made.write(target, heading)
    console.print(made.to_yaml(), end="", markup=False, highlight=False)
    say(console, f"written to {target}")
