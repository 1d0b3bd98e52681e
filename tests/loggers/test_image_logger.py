"""Panels, tables and figures reach TensorBoard's files; loggers of numbers are left alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from atrous.loggers import LabeledImage, MetricsCSV, image_loggers


def test_tensorboard_shows_all_three(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="tensorboard", version="")
    (images,) = image_loggers([MetricsCSV(tmp_path), logger])
    images.log_panel("panels", np.full((4, 6, 3), 200, dtype=np.uint8), step=3)
    images.log_table("iou", ["class", "IoU"], [["sky", 0.51239], ["pole", None]], step=3)
    images.log_figure("confusion", Figure(), step=3)
    logger.finalize("success")

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["images"]) == {"panels", "confusion"}
    (panel,) = events.Images("panels")
    assert (panel.step, panel.height, panel.width) == (3, 4, 6)
    (text,) = events.Tensors("iou/text_summary")
    assert text.tensor_proto.string_val[0].decode().splitlines() == [
        "| class | IoU |",
        "| --- | --- |",
        "| sky | 0.5124 |",
        "| pole |  |",
    ]


def test_tensorboard_shows_labeled_images_as_strips(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="tensorboard", version="")
    (images,) = image_loggers([logger])
    mask, strip = np.zeros((4, 6), dtype=np.uint8), np.zeros((4, 18, 3), dtype=np.uint8)
    shown = [
        LabeledImage(group, name, {"mIoU": 0.5}, strip[:, :6], mask, mask, strip)
        for group, name in (("worst", "a"), ("worst", "b"), ("best", "c"))
    ]
    images.log_labeled("images", shown, {0: "sky"}, step=7)
    logger.finalize("success")
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["images"]) == {"images/worst_1", "images/worst_2", "images/best_1"}
    (image,) = events.Images("images/best_1")
    assert (image.step, image.height, image.width) == (7, 4, 18)


def test_numbers_only_means_no_image_logger(tmp_path: Path) -> None:
    assert image_loggers([MetricsCSV(tmp_path)]) == []
