"""Figures show the numbers they were given."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from atrous.loggers import MetricsCSV
from atrous.reports import confusion_figure, curves_figure


def test_confusion_rows_are_percentages_of_the_truth() -> None:
    figure = confusion_figure(torch.tensor([[30, 10, 0], [0, 0, 0], [1, 1, 6]]), ("sky", "pole", "sea"))
    axes = figure.axes[0]
    cells = axes.images[0].get_array()
    assert cells.tolist() == [[75, 25, 0], [0, 0, 0], [12.5, 12.5, 75]]
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["75", "25", "no true pixel", "12", "12", "75"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["sky", "pole", "sea"]


@pytest.mark.parametrize("classes", [1, 2, 21, 150])
def test_confusion_of_any_size_can_be_saved(classes: int, tmp_path: Path) -> None:
    figure = confusion_figure(torch.eye(classes).long(), [f"class {index}" for index in range(classes)])
    figure.savefig(tmp_path / "confusion.png", dpi=40)
    assert (tmp_path / "confusion.png").stat().st_size > 0


def test_curves_hold_every_logged_point(tmp_path: Path) -> None:
    logger = MetricsCSV(tmp_path)
    for step in range(8):
        logger.log_metrics({"lr-SGD/backbone": 0.1 - 0.01 * step, "lr-SGD/head": 1 - 0.1 * step}, step)
        logger.log_metrics({"lr-SGD/head_no_decay": 1 - 0.1 * step, "lr-SGD-momentum": 0.9}, step)
        logger.log_metrics({"train/loss": 1 / (step + 1)}, step)
        if step % 4 == 3:
            logger.log_metrics({"val/loss": 0.5, "val/miou": 0.8 - 0.1 * step, "val/iou/sky": 0.1}, step)
    figure = curves_figure(tmp_path / "metrics.csv")
    plots = {axes.get_title(loc="left"): axes for axes in figure.axes}
    assert set(plots) == {"loss", "mIoU", "learning rate"}
    raw, smooth, val = plots["loss"].lines
    assert list(raw.get_ydata()) == pytest.approx([1 / (step + 1) for step in range(8)])
    assert len(smooth.get_ydata()) == 8
    assert (list(val.get_xdata()), list(val.get_ydata())) == ([3, 7], [0.5, 0.5])
    assert val.get_marker() == "o"
    assert plots["mIoU"].get_title(loc="right") == "best 0.500 at step 3"
    names = [text.get_text() for text in plots["learning rate"].get_legend().get_texts()]
    assert names == ["backbone", "head, head_no_decay"]


def test_curves_of_nothing_and_of_nan_are_drawn(tmp_path: Path) -> None:
    curves_figure(tmp_path / "none.csv").savefig(tmp_path / "none.png", dpi=40)
    MetricsCSV(tmp_path).log_metrics({"train/loss": float("nan"), "val/miou": float("nan")}, 0)
    curves_figure(tmp_path / "metrics.csv").savefig(tmp_path / "nan.png", dpi=40)
