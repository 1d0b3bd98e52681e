"""A picture of a genotype: the path through the trellis, and the cell."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from atrous.atomic_file import atomic_file
from atrous.composition import Config
from atrous.errors import AtrousError
from atrous.models.nas import Genotype
from atrous.places import CONFIGURATION, choices
from atrous.reports import genotype_figure
from atrous.terminal import say


def run(
    console: Console, *, config: Config, folder: Path, genotype: str = "auto_deeplab", output: str | None = None
) -> None:
    """Draw a genotype.

    Args:
        console: Where the name of the picture goes.
        config: The whole configuration.
        folder: Where the picture goes.
        genotype: Name of one of ``conf/genotype``, or a file.
        output: The picture; ``None`` for ``genotype.png`` in the folder.

    Raises:
        AtrousError: There is no such genotype.
    """
    file = CONFIGURATION / "genotype" / f"{genotype}.yaml"
    if not file.is_file() and not Path(genotype).is_file():
        known = ", ".join(choices("genotype"))
        raise AtrousError(f"draw.genotype={genotype} is no file and none of conf/genotype ({known})")
    target = Path(output or folder / "genotype.png")
    draw_genotype(Genotype.of(file if file.is_file() else genotype), target, title=genotype)
    say(console, f"written to {target}")


def draw_genotype(genotype: Genotype, path: Path, *, title: str = "") -> None:
    """Write the picture, whole or not at all."""
    with atomic_file(path) as file:
        genotype_figure(genotype, title=title).savefig(file, format=path.suffix.removeprefix(".") or "png")
