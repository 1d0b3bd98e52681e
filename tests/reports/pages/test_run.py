"""What the page of a run says, read as a browser would."""

from __future__ import annotations

import base64
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.reports.pages.example import write_example
from tests.reports.pages.reading import Read

from atrous.reports.pages import RunPage

Write = Callable[..., tuple[Path, RunPage]]


@pytest.fixture
def run_page(tmp_path: Path) -> Write:
    return lambda **changes: write_example(tmp_path, **changes)


SECTIONS = ["Scores", "Curves", "Classes", "Confusion", "Borders", "Images", "Recipe", "Environment"]


def test_every_section_is_there_and_linked(run_page: Write) -> None:
    read = Read(run_page()[0])
    assert read.headings == SECTIONS
    assert [address[1:] for address in read.addresses if address.startswith("#")] == [name.lower() for name in SECTIONS]


def test_nothing_is_fetched(run_page: Write) -> None:
    path, _ = run_page()
    assert all(address.startswith(("data:", "#")) for address in Read(path).addresses)
    assert not re.search(r"(url\(|@import|<script src)", path.read_text(encoding="utf-8"))


def test_scores_are_those_of_the_entries(run_page: Write) -> None:
    path, page = run_page()
    read, best = Read(path), page.scores[0]
    assert read.row("best")[:4] == [
        "best",
        "40",
        f"{100 * best.scores.miou:.1f}",
        f"{100 * best.scores.pixel_accuracy:.1f}",
    ]
    assert read.row("best")[-1] == str(best.protocol)
    assert best.scores.miou == pytest.approx((900 / 1015 + 60 / 151 + 3 / 84 + 45 / 50) / 4)


def test_classes_are_shown_by_name_whatever_signs_are_in_it(run_page: Write) -> None:
    read = Read(run_page()[0])
    for name, shown in {"<script>alert(1)</script>": "39.7", 'a & "b"': "3.6", "never there": "–"}.items():
        of_classes, of_confusion = [row for row in read.rows if row and row[0] == name]
        assert of_classes[1] == shown
        assert len(of_confusion) == 1 + 5
    assert "deeplabv3 & <others>" in read.text


def test_rows_of_the_confusion_matrix_are_shares_of_the_truth(run_page: Write) -> None:
    read = Read(run_page()[0])
    _, of_confusion = [row for row in read.rows if row and row[0] == "<script>alert(1)</script>"]
    assert of_confusion[1:] == ["10", "60", "30", "", ""]


def test_the_command_repeats_the_run(run_page: Write) -> None:
    path, _ = run_page()
    (line,) = re.findall(r'id="repeat"[^>]*>([^<]*)<', path.read_text(encoding="utf-8"))
    line = line.replace("&#39;", "'").replace("&#34;", '"')
    assert shlex.split(line) == ["python", "src/train.py", "model=deeplabv3", "data.root='/a b/c'"]


def test_images_are_in_the_page(run_page: Write) -> None:
    path, _ = run_page()
    read = Read(path)
    tile = (path.parent / "images" / "worst_1" / "truth.webp").read_bytes()
    assert f"data:image/webp;base64,{base64.b64encode(tile).decode()}" in read.addresses
    assert [text for text in ("Worst", "Median", "Best") if text in read.text] == ["Worst", "Median", "Best"]
    assert "image <0>" in read.text
    assert "Of 9 images" in read.text


def test_figures_are_there_for_light_and_dark_pages(run_page: Write) -> None:
    drawn = [address for address in Read(run_page()[0]).addresses if address.startswith("data:image/svg+xml")]
    assert len(set(drawn)) == len(drawn) == 4
    backgrounds = [re.findall(r"fill: (#\w+)", base64.b64decode(each.split(",")[1]).decode())[0] for each in drawn]
    assert backgrounds == ["#0d1117", "#ffffff"] * 2


def test_what_is_not_known_is_left_out(run_page: Write) -> None:
    path, _ = run_page(scores=[], confusion=None, borders=None, facts=None)
    assert Read(path).headings == ["Scores", "Curves", "Images", "Recipe", "Environment"]
    assert "Nothing was scored." in Read(path).text
