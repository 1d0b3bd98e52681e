"""The page of several runs or measurements: one table, their curves over each other, and where they differ."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from atrous.data.label_space import LabelSpace
from atrous.metrics import BorderScores
from atrous.reports.figures import curves_over_each_other, trimap_figure
from atrous.reports.image_scores import ImageScore, read_image_scores
from atrous.reports.importance import differing, importance
from atrous.reports.pages.page import address, picture, write_page
from atrous.reports.tables import ScoreEntry
from atrous.reports.thumbnails import read_thumbnail

_SHOWN = 12
"""Images on which runs differ most."""

_SECTIONS = ("scores", "curves", "settings", "borders", "classes", "images", "repeat")


@dataclass(frozen=True)
class Compared:
    """One of the runs or measurements.

    Attributes:
        label: What distinguishes it from the others.
        score: What it scored; ``None`` if it was not.
        label_space: Its classes; ``None`` if nothing was scored.
        folder: Its files, such as ``images`` and ``report.html``.
        metrics: Its metrics.csv.
        settings: What was said for it.
        borders: Its scores near borders.
        facts: Whatever else is known, in words, by the name of a column.
    """

    label: str
    score: ScoreEntry | None
    label_space: LabelSpace | None
    folder: Path
    metrics: Path | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    borders: BorderScores | None = None
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def miou(self) -> float:
        """Its mIoU; nan if it has none."""
        return math.nan if self.score is None else self.score.scores.miou


def write_comparison_page(path: str | Path, runs: Sequence[Compared], *, title: str, command: str) -> None:
    """Write a page that compares runs; what is missing is left out.

    Args:
        path: The file.
        runs: At least one.
        title: Heading.
        command: What repeats all of them.
    """
    path = Path(path)
    runs = [replace(each, label=label) for each, label in zip(runs, _shortened(runs), strict=True)]
    curves = {each.label: each.metrics for each in runs if each.metrics is not None and each.metrics.is_file()}
    borders = {each.label: each.borders for each in runs if each.borders is not None}
    whole = {each.label: each.miou for each in runs}
    settings = [each.settings for each in runs]
    spaces = {each.label_space for each in runs if each.label_space is not None}
    space = next(iter(spaces)) if len(spaces) == 1 else None  # classes of several data sets share no table
    values: dict[str, Any] = {
        "kind": "Comparison",
        "title": title,
        "runs": [_row(each, path.parent) for each in runs],
        "facts": list(dict.fromkeys(name for each in runs for name in each.facts)),
        "curves": picture("curves", lambda theme: curves_over_each_other(curves, theme)) if curves else None,
        "settings": differing(settings),
        "values": [each.settings for each in runs],
        "importance": importance(settings, [each.miou for each in runs]),
        "borders": picture("borders", lambda theme: trimap_figure(borders, whole, theme)) if borders else None,
        "classes": None if space is None else _classes(runs, space),
        "space": space,
        "images": [] if space is None else _images(runs),
        "repeat": command,
    }
    values["sections"] = [(name, name.capitalize()) for name in _SECTIONS if name == "scores" or values[name]]
    write_page(path, "comparison.html", **values)


def _shortened(runs: Sequence[Compared]) -> list[str]:
    """Labels without the folders that all of them begin or end with."""
    labels = [each.label for each in runs]
    parts = [label.split("/") for label in labels]
    first, last = _alike(parts), _alike([each[::-1] for each in parts])
    short = ["/".join(each[first : len(each) - last]) for each in parts]
    return short if all(short) and len(set(short)) == len(short) else labels


def _alike(parts: Sequence[Sequence[str]]) -> int:
    """How many parts all begin with."""
    return sum(1 for _ in itertools.takewhile(lambda same: len(set(same)) == 1, zip(*parts, strict=False)))


def _row(run: Compared, beside: Path) -> dict[str, Any]:
    page = run.folder / "report.html"
    link = page.relative_to(beside).as_posix() if page.is_file() and page.is_relative_to(beside) else None
    return {"label": run.label, "score": run.score, "facts": run.facts, "link": link}


def _classes(runs: Sequence[Compared], space: LabelSpace) -> list[dict[str, Any]]:
    rows = []
    for index, name in enumerate(space.classes):
        ious = [math.nan if each.score is None else each.score.scores.iou[index] for each in runs]
        rows.append({"name": name, "color": space.palette[index], "ious": ious, "best": _best(ious)})
    return rows


def _best(values: Sequence[float]) -> int | None:
    """Where the largest number is; nowhere if it is not alone or alone in being there."""
    known = [value for value in values if math.isfinite(value)]
    if len(known) < 2 or known.count(max(known)) > 1:
        return None
    return values.index(max(known))


class _Tile(NamedTuple):
    title: str
    source: str | None
    miou: float | None


class _Image(NamedTuple):
    name: str
    range: float
    tiles: list[_Tile]


def _images(runs: Sequence[Compared]) -> list[_Image]:
    """The images whose scores are furthest apart, with what each run made of them."""
    scored: list[tuple[Compared, dict[str, ImageScore]]] = []
    for run in runs:
        file = run.folder / "images" / "scores.csv"
        if file.is_file():
            scored.append((run, {each.name: each for each in read_image_scores(file)}))
    if len(scored) < 2:
        return []
    common = set.intersection(*(set(scores) for _, scores in scored))
    ranges = {name: _range([scores[name].miou for _, scores in scored]) for name in common}
    furthest = sorted((name for name in common if ranges[name] > 0), key=lambda name: (-ranges[name], name))
    return [_Image(name, ranges[name], _tiles(name, scored)) for name in furthest[:_SHOWN]]


def _tiles(name: str, scored: Sequence[tuple[Compared, Mapping[str, ImageScore]]]) -> list[_Tile]:
    tiles: list[_Tile] = []
    for run, scores in scored:
        archive = run.folder / "images" / "thumbnails.zip"
        thumbnail = read_thumbnail(archive, scores[name].index) if archive.is_file() else None
        source = None
        if thumbnail is not None:
            source = address(thumbnail.prediction, "png")
            if not tiles:
                tiles.append(_Tile("input", address(thumbnail.input, "webp"), None))
                tiles.append(_Tile("truth", address(thumbnail.truth, "png"), None))
        tiles.append(_Tile(run.label, source, scores[name].miou))
    return tiles


def _range(values: Sequence[float]) -> float:
    return max(values) - min(values)
