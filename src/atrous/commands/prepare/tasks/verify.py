"""Everything that is wrong with the files of a data set, at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console

from atrous.data.data_module import SegmentationDataModule
from atrous.data.preparation.verification import Verdict, verify
from atrous.terminal import say


def run(
    console: Console,
    *,
    data: SegmentationDataModule,
    splits: Sequence[str] | None = None,
    workers: int | None = None,
) -> dict[str, Any]:
    """Read every image and mask, and list what is wrong; the command ends with status 1 if anything is.

    Args:
        console: Where progress and problems go.
        data: The data set at hand.
        splits: Those to look at; ``None`` for the ones that training and validation read.
        workers: Processes; ``None`` for one on each core.

    Returns:
        Problems, notes and lengths, for JSON.
    """
    chosen = tuple(dict.fromkeys(splits or (data.split("train"), data.split("val"))))
    verdict = verify(data.open, chosen, workers=workers)
    show(console, verdict)
    return verdict._asdict()


def show(console: Console, verdict: Verdict) -> None:
    """Print what was found."""
    for line in (*verdict.problems, *verdict.notes):
        say(console, line)
    looked_at = ", ".join(f"{split} {length:,}" for split, length in verdict.lengths.items())
    found = f"{len(verdict.problems):,} problems" if verdict.problems else "no problem"
    say(console, f"{found} in {looked_at or 'no split'}")
