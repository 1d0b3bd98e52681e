"""The page of a multirun, from the files of its runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import yaml

from atrous.data.label_space import LabelSpace
from atrous.reports.importance import differing
from atrous.reports.pages.comparison import Compared, write_comparison_page
from atrous.reports.tables import ScoreEntry


def write_multirun_page(folder: str | Path, *, command: str) -> Path | None:
    """Write ``report.html`` beside the numbered folders of the trainings of a multirun.

    Args:
        folder: Of the multirun.
        command: What repeats it.

    Returns:
        The file; ``None`` if no training began.
    """
    folder = Path(folder)
    numbered = sorted((each for each in folder.iterdir() if each.name.isdigit()), key=lambda each: int(each.name))
    runs = [_read(each) for each in numbered if (each / "overrides.yaml").is_file()]
    if not runs:
        return None
    keys = differing([each.settings for each in runs])
    named = [replace(each, label=_label(each, keys)) for each in runs]
    path = folder / "report.html"
    write_comparison_page(path, named, title=folder.name, command=command)
    return path


def _read(folder: Path) -> Compared:
    score = space = None
    facts: Mapping[str, str] = {}
    summary = folder / "summary.json"
    if summary.is_file():
        found = json.loads(summary.read_text(encoding="utf-8"))
        facts = {"steps": str(found["facts"]["steps"])} if "steps" in found["facts"] else {}
        if found["scores"]:
            score = ScoreEntry.from_dict(found["scores"][0])
            space = LabelSpace.from_dict(found["label_space"])
    return Compared(
        label=folder.name,
        score=score,
        label_space=space,
        folder=folder,
        metrics=folder / "metrics.csv",
        settings=_settings(yaml.safe_load((folder / "overrides.yaml").read_text(encoding="utf-8")) or []),
        facts=facts,
    )


def _settings(overrides: Sequence[str]) -> dict[str, str]:
    split = (each.partition("=") for each in overrides)
    return {key.lstrip("+~"): value for key, _, value in split}


def _label(run: Compared, keys: Sequence[str]) -> str:
    said = ", ".join(f"{key}={run.settings[key]}" for key in keys if key in run.settings)
    return f"{run.folder.name}: {said}" if said else run.folder.name
