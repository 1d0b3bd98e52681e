"""Panels appear after every validation, but not for the sanity check."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from atrous.callbacks import Panels


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "panels").iterdir())


def test_pictures_after_every_validation(fit: Callable[..., Any], tmp_path: Path) -> None:
    fit([Panels(tmp_path, count=2)])
    assert names(tmp_path) == ["latest.png", "step_000002.png", "step_000004.png"]
    latest = (tmp_path / "panels/latest.png").read_bytes()
    assert latest == (tmp_path / "panels/step_000004.png").read_bytes()


def test_count_reaches_over_batches(fit: Callable[..., Any], tmp_path: Path) -> None:
    heights = {}
    for count in (1, 2, 3, 9):
        fit([Panels(tmp_path / str(count), count=count)], steps=2)
        heights[count] = np.asarray(Image.open(tmp_path / str(count) / "panels/latest.png")).shape[0]
    one = heights[1]  # three images in two batches
    assert heights == {1: one, 2: 2 * one, 3: 3 * one, 9: 3 * one}


def test_the_first_images_of_the_list_are_drawn_whatever_the_order_of_batches(
    fit: Callable[..., Any], tmp_path: Path
) -> None:
    """Images of one size share a batch, so a large batch may begin with others."""
    for name, order in {"listed": (0, 1, 2), "grouped": (2, 1, 0)}.items():
        fit([Panels(tmp_path / name, count=2)], steps=2, order=order)
    pictures = [(tmp_path / name / "panels/latest.png").read_bytes() for name in ("listed", "grouped")]
    assert pictures[0] == pictures[1]


def test_every_second_validation(fit: Callable[..., Any], tmp_path: Path) -> None:
    fit([Panels(tmp_path, every_n_validations=2)], steps=6)
    assert names(tmp_path) == ["latest.png", "step_000002.png", "step_000006.png"]


def test_loggers_get_the_picture(fit: Callable[..., Any], tmp_path: Path) -> None:
    fit([Panels(tmp_path)], logger=TensorBoardLogger(tmp_path, name="tensorboard", version=""))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [image.step for image in events.Images("panels")] == [2, 4]
