"""Measurements side by side."""

from __future__ import annotations

import io
import math

import torch
from rich.console import Console

from atrous.metrics import BorderScores, BoundaryScores, Protocol, Scores, scores_from_confusion
from atrous.reports import Cost, Measurement, comparison_markdown, comparison_table, trimap_figure

CLASSES = ("sky", "sea")
NOTHING = scores_from_confusion(torch.zeros(2, 2, dtype=torch.int64))


def scores(right: int, of: int) -> Scores:
    return scores_from_confusion(torch.tensor([[right, of - right], [of - right, right]]))


def measurement(label: str, *, borders: BorderScores | None = None, memory: int | None = None) -> Measurement:
    confusion = torch.tensor([[60, 20], [10, 10]])
    protocol = Protocol("toy", "val", 16, flip=label == "flip")
    whole = scores_from_confusion(confusion)
    return Measurement(label, CLASSES, whole, confusion, protocol, borders, Cost(0.1234, memory))


def near(void: Scores) -> BorderScores:
    bands = {"void": {1: void, 2: scores(7, 9), 3: scores(8, 9)}, "classes": {1: NOTHING, 2: NOTHING, 3: NOTHING}}
    return BorderScores(bands, BoundaryScores(0.25, (0.5, math.nan)), BoundaryScores(0.125, (0.125, 0.125)))


def rows(markdown: str) -> list[list[str]]:
    lines = [line for line in markdown.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]


def test_a_row_each_with_what_was_measured() -> None:
    both = [measurement("plain", borders=near(scores(5, 9)), memory=1_234_567_890), measurement("flip")]
    header, _, plain, flip = rows(comparison_markdown(both))
    assert header == [
        *("", "mIoU %", "pixel accuracy %", "mIoU within 1/3 px of void %", "boundary F1 %", "Boundary IoU %"),
        *("s/image", "peak memory"),
    ]  # no pixel is near a border between classes
    iou = 100 * (60 / 90 + 10 / 40) / 2
    assert plain[:3] == ["plain", f"{iou:.1f}", "70.0"]
    assert plain[3:] == [f"{100 * 5 / 13:.1f} / {100 * 8 / 10:.1f}", "25.0", "12.5", "0.123", "1,235 MB"]
    assert flip == ["flip", f"{iou:.1f}", "70.0", "– / –", "–", "–", "0.123", "–"]
    assert comparison_markdown(both).splitlines()[-2:] == [f"- {each.label}: {each.protocol}" for each in both]
    console = Console(file=io.StringIO(), width=250)
    console.print(comparison_table(both))
    assert isinstance(console.file, io.StringIO)
    said = console.file.getvalue()
    assert all(cell in said for row in (header, plain, flip) for cell in row)


def test_without_borders_there_are_no_columns_for_them() -> None:
    header, _, row = rows(comparison_markdown([measurement("plain")]))
    assert header == ["", "mIoU %", "pixel accuracy %", "s/image", "peak memory"]
    assert len(row) == len(header)


def test_plain_values() -> None:
    values = measurement("plain", borders=near(scores(5, 9)), memory=5).to_dict()
    assert values["label"] == "plain"
    assert values["pixels"] == {
        "sky": {"truth": 80, "prediction": 70, "right": 60},
        "sea": {"truth": 20, "prediction": 30, "right": 10},
    }
    assert values["borders"]["trimap"]["void"]["2"] == {"miou": 7 / 11, "pixel_accuracy": 7 / 9}
    assert values["borders"]["trimap"]["classes"]["2"] == {"miou": None, "pixel_accuracy": None}
    assert values["borders"]["boundary_f1"] == {"mean": 0.25, "classes": {"sky": 0.5, "sea": None}}
    assert values["cost"] == {"seconds_per_image": 0.1234, "peak_memory_bytes": 5}
    assert "borders" not in measurement("plain").to_dict()


def test_the_curves_of_bands() -> None:
    curves = {"one": near(scores(5, 9)), "other": near(scores(6, 9))}
    figure = trimap_figure(curves, {"one": 0.9, "other": 0.95})
    (axes,) = figure.axes  # none for borders that no pixel is near to
    drawn = [line for line in axes.lines if line.get_marker() == "o"]
    assert [list(line.get_xdata()) for line in drawn] == [[1, 2, 3], [1, 2, 3]]
    assert list(drawn[1].get_ydata()) == [100 * scores(right, 9).miou for right in (6, 7, 8)]
    assert [line.get_ydata()[0] for line in axes.lines if line.get_marker() != "o"] == [90, 95]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["one", "other"]
