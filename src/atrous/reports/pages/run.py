"""The page of a run: everything that is known about it when it ends."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from atrous.data.label_space import LabelSpace
from atrous.machine import lines
from atrous.metrics import BorderScores
from atrous.reports.figures import curves_figure, trimap_figure
from atrous.reports.image_scores import KINDS, read_image_scores
from atrous.reports.pages.page import address, picture, write_page
from atrous.reports.tables import ScoreEntry, percent

_SECTIONS = ("scores", "curves", "classes", "confusion", "borders", "images", "recipe", "environment")


@dataclass(frozen=True)
class RunPage:
    """What a page shows besides the files of the run's folder.

    Attributes:
        kind: What the run was, such as ``Training``.
        title: Heading.
        command: What it was started with, before its overrides: ``python src/train.py``.
        label_space: The classes and their colors.
        scores: The one that matters first; may be empty.
        confusion: Confusion matrix of the first one, integers C×C; ``None`` where it is not known.
        borders: Its scores near borders.
        facts: Whatever else is known, in words.
    """

    kind: str
    title: str
    command: str
    label_space: LabelSpace
    scores: Sequence[ScoreEntry]
    confusion: Tensor | None = None
    borders: BorderScores | None = None
    facts: Mapping[str, str | int | float] | None = None


def write_run_page(folder: str | Path, page: RunPage) -> Path:
    """Write ``report.html`` of a run from what is known and what is in its folder; what is missing is left out.

    Args:
        folder: The run's folder, with the record of the run and, if there are any, ``metrics.csv`` and ``images``.
        page: What else the page shows.

    Returns:
        The file.
    """
    folder = Path(folder)
    first = page.scores[0] if page.scores else None
    facts = {name: str(value) for name, value in (page.facts or {}).items()}
    overrides = yaml.safe_load(_text(folder / "overrides.yaml")) or []
    borders = page.borders
    values: dict[str, Any] = {
        "kind": page.kind,
        "title": page.title,
        "protocol": None if first is None else str(first.protocol),
        "cards": _cards(first, facts),
        "scores": page.scores,
        "curves": _curves(folder / "metrics.csv"),
        "classes": [] if first is None else _classes(first, page.label_space, page.confusion),
        "classes_of": "" if first is None else f"{first.label}: {first.protocol}",
        "confusion": None if page.confusion is None else _confusion(page.confusion, page.label_space.classes),
        "borders": None,
        "space": page.label_space,
        "images": _images(folder / "images"),
        "image_count": _count(folder / "images"),
        "repeat": " ".join([page.command, *map(shlex.quote, overrides)]),
        "overrides": overrides,
        "recipe": _text(folder / "config.yaml"),
        "environment": [*facts.items(), *_environment(folder)],
    }
    if borders is not None and first is not None:
        curve, whole = {first.label: borders}, {first.label: first.scores.miou}
        values["borders"] = picture("borders", lambda theme: trimap_figure(curve, whole, theme))
    values["sections"] = [(name, name.capitalize()) for name in _SECTIONS if values.get(name, True)]
    path = folder / "report.html"
    write_page(path, "run.html", **values)
    return path


def _cards(first: ScoreEntry | None, facts: Mapping[str, str]) -> list[tuple[str, str]]:
    cards = []
    if first is not None:
        scores = first.scores
        cards = [
            ("mIoU", f"{percent(scores.miou)} %"),
            ("pixel accuracy", f"{percent(scores.pixel_accuracy)} %"),
            ("mean accuracy", f"{percent(scores.mean_accuracy)} %"),
        ]
    return cards + [(name, facts[name]) for name in ("steps", "time", "seconds per image") if name in facts]


def _curves(metrics: Path) -> Any:
    return picture("curves", lambda theme: curves_figure(metrics, theme)) if metrics.is_file() else None


def _classes(entry: ScoreEntry, space: LabelSpace, confusion: Tensor | None) -> list[dict[str, Any]]:
    pixels = [math.nan] * space.num_classes
    if confusion is not None and confusion.any():
        pixels = (confusion.sum(dim=1) / confusion.sum()).tolist()
    columns = zip(space.classes, space.palette, entry.scores.iou, entry.scores.accuracy, pixels, strict=True)
    return [
        {"name": name, "color": color, "iou": iou, "accuracy": accuracy, "share": share}
        for name, color, iou, accuracy, share in columns
    ]


def _confusion(confusion: Tensor, classes: Sequence[str]) -> list[dict[str, Any]]:
    counts = confusion.detach().cpu().double()
    pixels = counts.sum(dim=1)
    shares = (100 * counts / pixels.clamp(min=1).unsqueeze(1)).round().int().tolist()
    return [
        {"name": name, "pixels": int(pixels[index]), "right": shares[index][index], "shares": shares[index]}
        for index, name in enumerate(classes)
    ]


def _images(folder: Path) -> list[tuple[str, list[dict[str, Any]]]]:
    """The extreme images by kind, each with the addresses of its tiles."""
    shown = []
    for kind in KINDS:
        images = []
        for place in sorted(folder.glob(f"{kind}_*/image.json"), key=lambda path: int(path.parent.name.split("_")[1])):
            facts = json.loads(place.read_text(encoding="utf-8"))
            tiles = [
                (title, address((place.parent / f"{title}.webp").read_bytes(), "webp")) for title in facts["tiles"]
            ]
            images.append({**facts, "tiles": tiles})
        if images:
            shown.append((kind.capitalize(), images))
    return shown


def _count(folder: Path) -> int:
    scores = folder / "scores.csv"
    return len(read_image_scores(scores)) if scores.is_file() else 0


def _environment(folder: Path) -> list[tuple[str, str]]:
    machine, file = [], folder / "environment.json"
    if file.is_file():
        machine = list(zip(("machine", "versions"), lines(json.loads(file.read_text(encoding="utf-8"))), strict=True))
    commit = _text(folder / "git_commit.txt").strip()
    return [*machine, *([("commit", commit)] if commit else []), ("folder", str(folder))]


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
