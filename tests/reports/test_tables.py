"""No score without its protocol."""

from __future__ import annotations

import io
import json
from pathlib import Path

import torch
from rich.console import Console

from atrous.data.label_space import LabelSpace
from atrous.metrics import Protocol, scores_from_confusion
from atrous.reports import ScoreEntry, score_markdown, score_table, write_summary

CLASSES = ("sky", "sea", "pole")
SPACE = LabelSpace("toy", CLASSES, ((1, 2, 3), (4, 5, 6), (7, 8, 9)))
SCORES = scores_from_confusion(torch.tensor([[3, 1, 0], [0, 4, 0], [0, 0, 0]]))  # IoU 3/4, 4/5, absent
PROTOCOL = Protocol("toy", "val", 16, checkpoint="best.ckpt")


def test_terminal_table_has_classes_means_and_protocol() -> None:
    console = Console(width=120, file=io.StringIO())
    with console.capture() as captured:
        console.print(score_table(SCORES, CLASSES, PROTOCOL))
    lines = captured.get().splitlines()
    assert lines[0].strip() == str(PROTOCOL)
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if line.startswith("│")]
    rows = {name: [iou, accuracy] for name, iou, accuracy, _ in cells}
    assert rows["sky"] == ["75.0", "75.0"]
    assert rows["sea"] == ["80.0", "100.0"]
    assert rows["pole"] == ["–", "–"]
    assert rows["mean"] == ["77.5", "87.5"]


def test_markdown_table() -> None:
    text = score_markdown(SCORES, CLASSES, PROTOCOL)
    assert text.startswith(str(PROTOCOL))
    assert "| sky | 75.0 | 75.0 |" in text
    assert "| pole | – | – |" in text
    assert "| **mean** | **77.5** | **87.5** |" in text


def test_summary_attaches_the_protocol_to_every_score(tmp_path: Path) -> None:
    best = ScoreEntry("best", SCORES, PROTOCOL, step=40)
    last = ScoreEntry("last", SCORES, Protocol("toy", "val", 8))
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures/curves.png").write_bytes(b"")
    markdown, plain = write_summary(
        tmp_path, [best, last], SPACE, title="demo", facts={"steps": 40}, pictures=("figures/curves.png", "no.png")
    )
    text = markdown.read_text(encoding="utf-8")
    assert text.startswith("# demo\n")
    assert f"| best | 40 | 77.5 | 87.5 | {PROTOCOL} |" in text
    assert text.count(str(last.protocol)) == 2
    assert "figures/curves.png" in text
    assert "no.png" not in text

    values = json.loads(plain.read_text(encoding="utf-8"))
    assert values["facts"] == {"steps": 40}
    assert values["scores"][0]["iou"] == {"sky": 0.75, "sea": 0.8, "pole": None}
    assert values["scores"][1]["protocol"]["output_stride"] == 8
    assert str(ScoreEntry.from_dict(values["scores"][0])) == str(best)
    assert LabelSpace.from_dict(values["label_space"]) == SPACE
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figures", "summary.json", "summary.md"]


def test_summary_of_a_run_that_was_never_scored(tmp_path: Path) -> None:
    markdown, plain = write_summary(tmp_path / "run", [], SPACE)
    assert "Nothing was scored." in markdown.read_text(encoding="utf-8")
    assert json.loads(plain.read_text(encoding="utf-8"))["scores"] == []
