"""A run whose page has every section, and names that are no HTML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from atrous.data.label_space import LabelSpace, voc_color_map
from atrous.metrics import BorderScores, BoundaryScores, Protocol, scores_from_confusion
from atrous.reports import DrawnImage, ImageScore, ScoreEntry, extremes, write_drawn_images, write_image_scores
from atrous.reports.pages import RunPage, write_run_page
from atrous.reports.run_record import record_run

NAMES = ("background", "<script>alert(1)</script>", 'a & "b"', "never there", "fifth")


def write_example(folder: Path, **changes: Any) -> tuple[Path, RunPage]:
    """Write a page into an empty folder; changes replace what is on it."""
    space = LabelSpace("toy", NAMES, voc_color_map(len(NAMES)))
    confusion = torch.tensor(
        [[900, 50, 50, 0, 0], [10, 60, 30, 0, 0], [0, 1, 3, 0, 0], [0, 0, 0, 0, 0], [5, 0, 0, 0, 45]]
    )
    scores = scores_from_confusion(confusion)
    protocol = Protocol("toy", "val", 16, checkpoint="best.ckpt")
    bands = {kind: {width: scores for width in (1, 3, 10)} for kind in ("void", "classes")}
    outlines = BoundaryScores(0.5, (0.5,) * 5)
    values: dict[str, Any] = {
        "kind": "Training",
        "title": "deeplabv3 & <others>",
        "command": "python src/train.py",
        "label_space": space,
        "scores": [ScoreEntry("best", scores, protocol, step=40), ScoreEntry("last", scores, protocol, step=50)],
        "confusion": confusion,
        "borders": BorderScores(bands, outlines, outlines),
        "facts": {"steps": "50 of 50", "time": "0:01:02"},
    }
    page = RunPage(**{**values, **changes})
    record_run(folder, {"name": "toy", "seed": 0}, ["model=deeplabv3", "data.root='/a b/c'"], None)
    (folder / "metrics.csv").write_text("step,epoch,train/loss,val/miou\n9,0,1.5,\n19,0,1.0,0.4\n29,0,0.8,0.5\n")
    found = [ImageScore(index, f"image <{index}>", index / 9, index / 9, 60) for index in range(9)]
    write_image_scores(folder / "images" / "scores.csv", found)
    tile = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    drawn = [
        DrawnImage(kind, number, score, 0.75, {"input": tile, "truth": tile, "confidence": tile})
        for kind, images in extremes(found, 2).items()
        for number, score in enumerate(images, start=1)
    ]
    write_drawn_images(folder / "images", drawn)
    return write_run_page(folder, page), page
