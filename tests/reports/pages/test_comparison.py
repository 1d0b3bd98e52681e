"""What the page of several runs says."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tests.reports.pages.reading import Read

from atrous.data.label_space import LabelSpace
from atrous.metrics import Protocol, scores_from_confusion
from atrous.reports import (
    ImageScore,
    ScoreEntry,
    Thumbnail,
    small_mask,
    write_image_scores,
    write_summary,
    write_thumbnails,
)
from atrous.reports.pages import Compared, write_comparison_page, write_multirun_page

SPACE = LabelSpace("toy", ("sky", "sea <&>"), ((10, 20, 250), (0, 90, 160)))
CONFUSIONS = {"a": [[8, 2], [0, 10]], "b": [[9, 1], [1, 9]], "c": [[5, 5], [5, 5]]}


def score(name: str) -> ScoreEntry:
    protocol = Protocol("toy", "val", 16, checkpoint=f"{name}.ckpt")
    return ScoreEntry("best", scores_from_confusion(torch.tensor(CONFUSIONS[name])), protocol, step=40)


def compared(folder: Path, name: str, label: str | None = None, **changes: Any) -> Compared:
    """A run whose second image is the better the earlier its name comes in the alphabet."""
    images = folder / name / "images"
    place = "abc".index(name)
    found = [ImageScore(0, "same", 0.5, 0.5, 9), ImageScore(4, "other", 0.9 - 0.3 * place, 0.5, 9)]
    write_image_scores(images / "scores.csv", found)
    mask = small_mask(np.full((4, 6), place % 2, dtype=np.uint8), SPACE)
    write_thumbnails(images / "thumbnails.zip", [(4, Thumbnail(b"input", b"truth", mask))])
    (folder / name / "metrics.csv").write_text("step,epoch,train/loss,val/miou\n9,0,1.5,\n19,0,1.0,0.4\n")
    values = {"score": score(name), "label_space": SPACE, "metrics": folder / name / "metrics.csv", **changes}
    return Compared(label or name, folder=folder / name, **values)


@pytest.fixture
def read(tmp_path: Path) -> Read:
    runs = [
        compared(tmp_path, name, settings={"rate": rate, "seed": "0"}) for name, rate in zip("abc", "123", strict=True)
    ]
    (tmp_path / "b" / "report.html").write_text("")
    write_comparison_page(tmp_path / "report.html", runs, title="three", command="python src/train.py -m rate=1,2,3")
    return Read(tmp_path / "report.html")


def test_every_run_has_a_row_and_a_link_to_its_page_if_it_has_one(read: Read) -> None:
    assert read.headings == ["Scores", "Curves", "Settings", "Classes", "Images", "Repeat"]
    for name in "abc":
        assert read.row(name)[1] == f"{100 * score(name).scores.miou:.1f}"
    assert [address for address in read.addresses if address.endswith(".html")] == ["b/report.html"]
    assert "python src/train.py -m rate=1,2,3" in read.text


def test_the_best_of_each_class_stands_out(read: Read, tmp_path: Path) -> None:
    sky = [f"{100 * score(name).scores.iou[0]:.1f}" for name in "abc"]
    assert read.row("sky")[1:] == sky
    assert f"<strong>{sky[1]}</strong>" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "sea <&>" in read.text


def test_settings_that_are_alike_are_left_out_and_the_others_weighed(read: Read) -> None:
    shares = [row for row in read.rows if row and row[0] == "rate"]
    assert [row[1] for row in shares] == ["25.0"]  # ranks 1 2 3 of 80.9, 81.8, 33.3: ρ = −0.5
    assert not any(row and row[0] == "seed" for row in read.rows)


def test_images_are_those_that_differ_with_what_each_run_made_of_them(read: Read) -> None:
    assert "other · 60.0 points apart" in read.text
    assert "same" not in read.text
    wanted = [
        base64.b64encode(small_mask(np.full((4, 6), value, dtype=np.uint8), SPACE)).decode() for value in (0, 1, 0)
    ]
    shown = [address.partition("base64,")[2] for address in read.addresses if "image/png" in address]
    assert shown == [base64.b64encode(b"truth").decode(), *wanted]
    assert "b · 60.0 %" in read.text


def test_labels_are_short_where_folders_are_shared(tmp_path: Path) -> None:
    for labels, shown in {
        ("runs/a/best", "runs/b/best"): ("a", "b"),
        ("runs/a", "runs/a/best"): ("runs/a", "runs/a/best"),
        ("one", "two"): ("one", "two"),
    }.items():
        runs = [compared(tmp_path, name, label) for name, label in zip("ab", labels, strict=True)]
        write_comparison_page(tmp_path / "report.html", runs, title="two", command="x")
        rows = Read(tmp_path / "report.html").rows
        assert tuple(row[0] for row in rows[1:3]) == shown


def test_classes_of_different_data_sets_share_no_table(tmp_path: Path) -> None:
    other = LabelSpace("other", ("up", "down"), SPACE.palette)
    runs = [compared(tmp_path, "a"), compared(tmp_path, "b", label_space=other)]
    write_comparison_page(tmp_path / "report.html", runs, title="two", command="x")
    assert Read(tmp_path / "report.html").headings == ["Scores", "Curves", "Repeat"]


def training(folder: Path, name: str, rate: str, *, scored: bool = True) -> None:
    folder.mkdir()
    said = ["model=deeplabv3", f"task.learning_rate={rate}"]
    (folder / "overrides.yaml").write_text(yaml.safe_dump(said))
    write_summary(folder, [score(name)] if scored else [], SPACE, facts={"steps": "40 of 40"})


def test_runs_of_a_multirun_are_told_apart_by_their_settings(tmp_path: Path) -> None:
    for number, (name, rate) in {"10": ("b", "0.1"), "2": ("a", "0.01")}.items():
        training(tmp_path / number, name, rate)
    training(tmp_path / "11", "c", "1", scored=False)
    (tmp_path / "12").mkdir()  # did not begin
    page = write_multirun_page(tmp_path, command="python src/train.py -m task.learning_rate=0.01,0.1,1")
    assert page is not None
    names = [row[0] for row in Read(page).rows[1:4]]
    assert names == [
        f"{number}: task.learning_rate={rate}" for number, rate in (("2", "0.01"), ("10", "0.1"), ("11", "1"))
    ]
    assert Read(page).row(names[2])[1] == "–"


def test_a_multirun_in_which_nothing_began_has_no_page(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    assert write_multirun_page(tmp_path, command="x") is None
