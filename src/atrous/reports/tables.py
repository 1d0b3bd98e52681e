"""Scores as text: for the terminal, for Markdown, and as the summary of a run on disk."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from atrous.data.label_space import LabelSpace
from atrous.metrics import Protocol, Scores

_BAR = 30  # characters that stand for an IoU of 1


@dataclass(frozen=True)
class ScoreEntry:
    """A score, and everything needed to know what it is the score of.

    Attributes:
        label: What was scored, for example "best" or "last".
        scores: The numbers.
        protocol: How they were measured.
        step: Training steps that made the weights; None where that is not known.
    """

    label: str
    scores: Scores
    protocol: Protocol
    step: int | None = None

    def to_dict(self, classes: Sequence[str]) -> dict[str, Any]:
        """Plain values for JSON and checkpoints; the protocol is also there as one line."""
        return {
            "label": self.label,
            "step": self.step,
            "protocol": self.protocol.to_dict(),
            "protocol_line": str(self.protocol),
            **self.scores.to_dict(classes),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ScoreEntry:
        """Inverse of ``to_dict``."""
        return cls(
            values["label"], Scores.from_dict(values), Protocol.from_dict(values["protocol"]), step=values["step"]
        )


def score_table(scores: Scores, classes: Sequence[str], protocol: Protocol) -> Table:
    """Table for the terminal: IoU and accuracy of each class, the means below, the protocol as title.

    Args:
        scores: The numbers.
        classes: Class names in the order of the ids.
        protocol: How the numbers came about.
    """
    title = str(protocol)
    table = Table(title=title, title_justify="left", title_style="bold", show_footer=True, min_width=len(title) + 2)
    table.add_column("class", footer="mean")
    table.add_column("IoU %", footer=percent(scores.miou), justify="right")
    table.add_column("accuracy %", footer=percent(scores.mean_accuracy), justify="right")
    table.add_column("IoU", min_width=_BAR, no_wrap=True)
    for name, iou, accuracy in zip(classes, scores.iou, scores.accuracy, strict=True):
        bar = Text("█" * (0 if math.isnan(iou) else round(_BAR * iou)), style="green")
        table.add_row(name, percent(iou), percent(accuracy), bar)
    table.caption = (
        f"mIoU {percent(scores.miou)} %, pixel accuracy {percent(scores.pixel_accuracy)} %, "
        f"frequency-weighted IoU {percent(scores.frequency_weighted_iou)} %; – = class does not occur"
    )
    table.caption_justify = "left"
    return table


def score_markdown(scores: Scores, classes: Sequence[str], protocol: Protocol) -> str:
    """The same as ``score_table``, in Markdown.

    Args:
        scores: The numbers.
        classes: Class names in the order of the ids.
        protocol: How the numbers came about.
    """
    lines = [
        f"{protocol}",
        "",
        "| class | IoU in % | accuracy in % |",
        "| --- | ---: | ---: |",
        *(
            f"| {name} | {percent(iou)} | {percent(accuracy)} |"
            for name, iou, accuracy in zip(classes, scores.iou, scores.accuracy, strict=True)
        ),
        f"| **mean** | **{percent(scores.miou)}** | **{percent(scores.mean_accuracy)}** |",
        "",
        f"Pixel accuracy {percent(scores.pixel_accuracy)} %, "
        f"frequency-weighted IoU {percent(scores.frequency_weighted_iou)} %. "
        "A class that does not occur (–) is left out of the means.",
    ]
    return "\n".join(lines) + "\n"


def write_summary(
    run_dir: str | Path,
    entries: Sequence[ScoreEntry],
    label_space: LabelSpace,
    *,
    title: str = "Run",
    facts: Mapping[str, str | int | float] | None = None,
    pictures: Sequence[str] = (),
) -> tuple[Path, Path]:
    """Write summary.md and summary.json of a run; every score in them carries its protocol.

    Args:
        run_dir: Folder that gets the files; created if needed.
        entries: Scores, the one that matters first; may be empty.
        label_space: The classes.
        title: Heading.
        facts: Further lines, for example steps and parameters.
        pictures: Files to show, relative to ``run_dir``; those that do not exist are left out.

    Returns:
        Paths of summary.md and summary.json.
    """
    folder = Path(run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    facts, classes = dict(facts or {}), label_space.classes
    lines = [f"# {title}", ""]
    if entries:
        lines += [
            "| weights | step | mIoU in % | pixel accuracy in % | protocol |",
            "| --- | ---: | ---: | ---: | --- |",
        ]
        lines += [
            f"| {entry.label} | {'' if entry.step is None else entry.step} | {percent(entry.scores.miou)} | "
            f"{percent(entry.scores.pixel_accuracy)} | {entry.protocol} |"
            for entry in entries
        ]
    else:
        lines.append("Nothing was scored.")
    lines.append("")
    if facts:
        lines += ["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in facts.items()), ""]
    for entry in entries:
        lines += [f"## {entry.label}", "", score_markdown(entry.scores, classes, entry.protocol)]
    lines += [f"![{Path(picture).stem}]({picture})\n" for picture in pictures if (folder / picture).is_file()]
    markdown, plain = folder / "summary.md", folder / "summary.json"
    _replace(markdown, "\n".join(lines).rstrip() + "\n")
    values = {"title": title, "facts": facts, "scores": [entry.to_dict(classes) for entry in entries]}
    values["label_space"] = label_space.to_dict()
    _replace(plain, json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    return markdown, plain


def _replace(path: Path, text: str) -> None:
    """A reader sees the old file or the new one, never a partial one."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)


def percent(value: float) -> str:
    """A fraction in percent, or a dash where there is none."""
    return "–" if math.isnan(value) else f"{100 * value:.1f}"
