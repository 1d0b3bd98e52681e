"""Measurements side by side: what several checkpoints or protocols score, and what they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from rich.table import Table
from torch import Tensor

from atrous.metrics import BorderScores, Protocol, Scores, pixel_counts
from atrous.reports.tables import percent

_SHOWN_WIDTHS = (1, 3, 10)
"""Widths of bands that have a column, of those that were measured."""


class Cost(NamedTuple):
    """What a process needed for its share of a test.

    Attributes:
        seconds: For an image, from pixels to classes and counts; without reading it.
        memory: Most bytes at once: of the process, or of what was kept on its GPU. ``None`` where the system does not
            tell it apart from what was there before.
    """

    seconds: float
    memory: int | None


@dataclass(frozen=True)
class Measurement:
    """A score with everything that was measured beside it.

    Attributes:
        label: What distinguishes it from the others.
        classes: Class names in the order of the ids.
        scores: Scores of all pixels.
        confusion: Their confusion matrix, int64 C×C.
        protocol: How they were measured.
        borders: Scores near borders; ``None`` where they were not asked for.
        cost: What it cost.
    """

    label: str
    classes: tuple[str, ...]
    scores: Scores
    confusion: Tensor
    protocol: Protocol
    borders: BorderScores | None
    cost: Cost

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        borders = {} if self.borders is None else {"borders": self.borders.to_dict(self.classes)}
        return {
            "label": self.label,
            "protocol": self.protocol.to_dict(),
            **self.scores.to_dict(self.classes),
            "pixels": pixel_counts(self.confusion, self.classes),
            **borders,
            "cost": {"seconds_per_image": round(self.cost.seconds, 4), "peak_memory_bytes": self.cost.memory},
        }


def comparison_table(measurements: Sequence[Measurement]) -> Table:
    """Table for the terminal, one row each.

    Args:
        measurements: At least one.
    """
    first, *others = _columns(measurements)
    table = Table()
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, justify="right")
    for row in _rows(measurements):
        table.add_row(*row)
    return table


def comparison_markdown(measurements: Sequence[Measurement]) -> str:
    """The same in Markdown, with the protocols below it.

    Args:
        measurements: At least one.
    """
    columns = _columns(measurements)
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *_rows(measurements)]
    table = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([*table, "", *(f"- {each.label}: {each.protocol}" for each in measurements)]) + "\n"


def _shown_bands(measurements: Sequence[Measurement]) -> Mapping[str, tuple[int, ...]]:
    """By what counts as a border, the widths that have columns; a kind without any pixel in all of them has none."""
    shown: dict[str, tuple[int, ...]] = {}
    for each in measurements:
        for kind, bands in ({} if each.borders is None else each.borders.bands).items():
            if any(scores.miou >= 0 for scores in bands.values()):  # nan is not
                widths = tuple(width for width in bands if width in _SHOWN_WIDTHS) or tuple(bands)[:1]
                shown.setdefault(kind, widths)
    return shown


def _columns(measurements: Sequence[Measurement]) -> list[str]:
    bands = [f"mIoU {_px(widths)} {_BORDERS[kind]} %" for kind, widths in _shown_bands(measurements).items()]
    outlines = ["boundary F1 %", "Boundary IoU %"] if any(each.borders for each in measurements) else []
    return ["", "mIoU %", "pixel accuracy %", *bands, *outlines, "s/image", "peak memory"]


_BORDERS = {"void": "of void", "classes": "of another class"}


def _px(widths: Sequence[int]) -> str:
    return f"within {'/'.join(map(str, widths))} px"


def _rows(measurements: Sequence[Measurement]) -> list[list[str]]:
    rows = []
    shown, with_borders = _shown_bands(measurements), any(each.borders for each in measurements)
    for each in measurements:
        row = [each.label, percent(each.scores.miou), percent(each.scores.pixel_accuracy)]
        for kind, widths in shown.items():
            bands = {} if each.borders is None else each.borders.bands.get(kind, {})
            row.append(" / ".join(percent(bands[width].miou) if width in bands else "–" for width in widths))
        if with_borders:
            outlines = [] if each.borders is None else [each.borders.f1, each.borders.iou]
            row += [percent(scores.mean) for scores in outlines] or ["–", "–"]
        row += [f"{each.cost.seconds:.3f}", "–" if each.cost.memory is None else f"{each.cost.memory / 1e6:,.0f} MB"]
        rows.append(row)
    return rows
