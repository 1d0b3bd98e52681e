"""Scoring a checkpoint from the command line's configuration."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

import evaluate
import train
from atrous.composition import load_segmentor
from atrous.data import Shapes
from atrous.errors import AtrousError
from atrous.metrics import confusion_matrix, scores_from_confusion
from atrous.metrics.trimap import within_trimap

pytestmark = pytest.mark.integration

Compose = Callable[..., DictConfig]


@pytest.fixture
def run(composed: Compose) -> Path:
    """A run of two steps on 64-pixel shapes."""
    config = composed(
        "train", "data.dataset.size=64", "data.dataset.lengths={train: 8, val: 3, test: 2}", "augment.crop_size=65",
        "data.batch_size=4", "data.num_workers=0", "model.head.aspp_channels=16", "model.head.decoder_channels=16",
        "trainer.max_steps=2", "trainer.accelerator=cpu", "logger=none", "name=trained", run="trained",
    )  # fmt: skip
    train.train(config)
    return Path(config.paths.run)


@pytest.mark.parametrize(("split", "output_stride"), [("val", 16), ("test", 8)])
def test_scores_equal_a_plain_loop(split: str, output_stride: int, run: Path, composed: Compose) -> None:
    config = composed("evaluate", f"ckpt_path={run}", f"split={split}", f"output_stride={output_stride}", run="scored")
    evaluate.evaluate(config)
    written = json.loads((Path(config.paths.run) / "scores.json").read_text())

    segmentor, _ = load_segmentor(run / "checkpoints" / "best.ckpt", output_stride=output_stride)
    dataset = Shapes(split, size=64, lengths={"val": 3, "test": 2})
    confusion = torch.zeros(8, 8, dtype=torch.int64)
    with torch.no_grad():
        for raw in (dataset[index] for index in range(len(dataset))):
            image = torch.from_numpy(raw.image.copy()).permute(2, 0, 1).unsqueeze(0)
            prediction = segmentor(image).softmax(1).argmax(1)
            confusion += confusion_matrix(prediction, torch.from_numpy(raw.mask.copy()).unsqueeze(0), 8)
    assert written["miou"] == pytest.approx(scores_from_confusion(confusion).miou, abs=2e-3)
    assert written["protocol"]["split"] == split
    assert written["protocol"]["output_stride"] == output_stride
    assert written["protocol"]["checkpoint"].endswith("best.ckpt")
    assert set(written["iou"]) == set(dataset.label_space.classes)


def test_other_classes_are_refused(run: Path, composed: Compose, camvid_folder: Path) -> None:
    config = composed("evaluate", f"ckpt_path={run}", "data=camvid", f"data.root={camvid_folder}", run="scored")
    with pytest.raises(AtrousError, match=r"8 classes of 'shapes'.*11 of 'camvid'"):
        evaluate.evaluate(config)


def test_scores_of_the_band_around_objects(run: Path, composed: Compose) -> None:
    """Fewer pixels count, and the protocol says which."""
    for width in (None, 2):
        value = "null" if width is None else width
        config = composed("evaluate", f"ckpt_path={run}", "split=val", f"trimap_width={value}", run=f"scored_{value}")
        evaluate.evaluate(config)
        written = json.loads((Path(config.paths.run) / "scores.json").read_text())
        assert written["protocol"]["trimap_width"] == width
        if width is None:
            whole = written["pixel_accuracy"]
    dataset = Shapes("val", size=64, lengths={"val": 3, "test": 2})
    segmentor, _ = load_segmentor(run / "checkpoints" / "best.ckpt")
    right = counted = 0
    with torch.no_grad():
        for raw in (dataset[index] for index in range(len(dataset))):
            image = torch.from_numpy(raw.image.copy()).permute(2, 0, 1).unsqueeze(0)
            band = within_trimap(torch.from_numpy(raw.mask.copy()).unsqueeze(0), 2)
            right += int(((segmentor(image).argmax(1) == band) & (band != 255)).sum())
            counted += int((band != 255).sum())
    assert written["pixel_accuracy"] == pytest.approx(right / counted, abs=2e-3)
    assert written["pixel_accuracy"] != whole
