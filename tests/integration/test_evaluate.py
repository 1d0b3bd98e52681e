"""Scoring a checkpoint from the command line's configuration."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig

from atrous.checkpoints import Card
from atrous.checkpoints.load import load_segmentor
from atrous.commands.evaluate import command as evaluate
from atrous.composition.parts import build_evaluation_data
from atrous.data.sets import Shapes
from atrous.data.sets.camvid import CAMVID
from atrous.errors import AtrousError
from atrous.metrics.trimap import within_trimap

pytestmark = pytest.mark.integration

Compose = Callable[..., DictConfig]
SIZE, LENGTHS = 64, {"val": 3, "test": 2}  # of the run
CLASSES = Shapes("val").label_space.classes


@pytest.fixture(scope="session")
def run(trained: Any) -> Path:
    folder: Path = trained.folder
    return folder


def score(composed: Compose, *overrides: str) -> dict[str, Any]:
    """What is written; the memory format is that of the loop below, so that no rounding differs."""
    config = composed("evaluate", *overrides, "channels_last=false", run="scored")
    evaluate.evaluate(config)
    written: dict[str, Any] = json.loads((Path(config.paths.run) / "scores.json").read_text())
    return written


def count(
    run: Path, split: str, *, output_stride: int | None = None, trimap_width: int | None = None
) -> NDArray[np.int64]:
    """Confusion matrix of the run's best network by a plain loop: row = truth, column = prediction."""
    segmentor, _ = load_segmentor(run / "checkpoints" / "best.ckpt", output_stride=output_stride)
    confusion = np.zeros((8, 8), dtype=np.int64)
    dataset = Shapes(split, size=SIZE, lengths=LENGTHS)
    for raw in (dataset[index] for index in range(len(dataset))):
        with torch.no_grad():
            image = torch.from_numpy(raw.image.copy()).permute(2, 0, 1)
            prediction = segmentor(image.unsqueeze(0)).softmax(dim=1).argmax(dim=1)[0].numpy()
        mask = raw.mask
        if trimap_width is not None:
            mask = within_trimap(torch.from_numpy(mask.copy()).unsqueeze(0), trimap_width)[0].numpy()
        counted = mask != 255
        np.add.at(confusion, (mask[counted], prediction[counted]), 1)
    assert (confusion.sum(axis=0) > 0).sum() >= 6, "a network that knows few classes proves little"
    return confusion


def assert_scores(written: dict[str, Any], confusion: NDArray[np.int64]) -> None:
    """Every number that is written follows from these counts, to the last bit where it is one quotient."""
    right, truth, guessed = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    union = truth + guessed - right
    ious = [right[c] / union[c] if union[c] else None for c in range(8)]
    accuracies = [right[c] / truth[c] if truth[c] else None for c in range(8)]
    assert written["iou"] == dict(zip(CLASSES, ious, strict=True))
    assert written["accuracy"] == dict(zip(CLASSES, accuracies, strict=True))
    assert written["pixel_accuracy"] == right.sum() / confusion.sum()
    assert written["miou"] == pytest.approx(np.mean([iou for iou in ious if iou is not None]), rel=1e-12)


@pytest.mark.parametrize(("split", "output_stride"), [("val", 16), ("test", 8)])
def test_scores_equal_a_plain_loop(split: str, output_stride: int, run: Path, composed: Compose) -> None:
    written = score(composed, f"ckpt_path={run}", f"split={split}", f"output_stride={output_stride}")
    assert_scores(written, count(run, split, output_stride=output_stride))
    assert written["protocol"]["split"] == split
    assert written["protocol"]["output_stride"] == output_stride
    assert written["protocol"]["trimap_width"] is None
    assert written["protocol"]["checkpoint"].endswith("best.ckpt")


def test_other_classes_are_refused(run: Path, composed: Compose, camvid_folder: Path) -> None:
    config = composed("evaluate", f"ckpt_path={run}", "data=camvid", f"data.root={camvid_folder}", run="scored")
    with pytest.raises(AtrousError, match=r"8 classes of 'shapes'.*11 of 'camvid'"):
        evaluate.evaluate(config)


def test_a_root_needs_no_split_but_the_one_that_is_scored(composed: Compose, camvid_folder: Path) -> None:
    for folder in ("images", "masks"):
        (camvid_folder / folder / "val").rename(camvid_folder / folder / "test")
    config = composed("evaluate", "ckpt_path=any", "data=camvid", f"data.root={camvid_folder}", "split=test")
    card = Card(label_space=CAMVID, preprocessing={}, recipe={}, score=None)
    data = build_evaluation_data(config, card)
    assert data.label_space == CAMVID
    assert data.dataset("test").split == "test"


def test_scores_of_the_band_around_objects(run: Path, composed: Compose) -> None:
    """Fewer pixels count, and the protocol says which."""
    written = score(composed, f"ckpt_path={run}", "trimap_width=2")
    near, everywhere = count(run, "val", trimap_width=2), count(run, "val")
    assert 0 < near.sum() < everywhere.sum()
    assert_scores(written, near)
    assert written["protocol"]["trimap_width"] == 2


def test_callbacks_add_what_comes_after_the_network_in_any_order(run: Path, composed: Compose) -> None:
    size = "callbacks.sliding_window.stage.size=33"
    scales = "callbacks.multi_scale_flip.stage.scales=[0.75,1.0]"
    names = ["evaluate", "multi_scale_flip", "sliding_window"]
    one = score(composed, f"ckpt_path={run}", f"callbacks=[{','.join(names)}]", size, scales)
    other = score(composed, f"ckpt_path={run}", f"callbacks=[{','.join(names[::-1])}]", size, scales)
    assert one == other
    assert one["protocol"]["scales"] == [0.75, 1.0]
    assert one["protocol"]["flip"] is True
    assert one["protocol"]["window"] == [33, 33]
    assert one["protocol"]["window_stride"] == [22, 22]
    chosen = score(
        composed,
        f"ckpt_path={run}",
        "inference=sliding_window",
        "inference.size=33",
        "callbacks=multi_scale_flip",
        scales,
    )
    assert chosen == one
    assert one["iou"] != score(composed, f"ckpt_path={run}")["iou"]


def test_another_set_of_scales_by_its_name(run: Path, composed: Compose) -> None:
    named = "inference@callbacks.multi_scale_flip.stage=multi_scale_flip_cityscapes"
    written = score(composed, f"ckpt_path={run}", "callbacks=[evaluate,multi_scale_flip]", named)
    assert written["protocol"]["scales"] == [0.75, 1.0, 1.25]
    assert written["protocol"]["flip"] is True


def test_two_sets_of_scales_are_refused_in_any_order(run: Path, composed: Compose) -> None:
    for names in ("multi_scale,flip", "flip,multi_scale", "multi_scale_flip,multi_scale"):
        config = composed("evaluate", f"ckpt_path={run}", f"callbacks=[evaluate,{names}]", run="refused")
        with pytest.raises(AtrousError, match="multi-scale testing is asked for twice"):
            evaluate.evaluate(config)
