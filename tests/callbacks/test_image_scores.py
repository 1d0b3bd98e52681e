"""Every image by itself: scores against brute force, and pictures of the network that was scored."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from PIL import Image
from tests.callbacks.conftest import SPACE, sample

from atrous.callbacks import BestCheckpoint, ImageScores, MovingAverage
from atrous.metrics import confusion_matrix, scores_from_confusion
from atrous.reports import read_image_scores, read_thumbnail


class Before(Callback):
    """Keeps the weights that are trained, before an average takes their place."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *arguments: Any) -> None:
        self.weights = copy.deepcopy(pl_module.state_dict())


def predicted(task: Any, index: int) -> torch.Tensor:
    with torch.no_grad():
        return task.eval().segmentor(sample(index)["image"].unsqueeze(0) / 255).softmax(dim=1)[0]


def test_every_image_has_its_own_score(fit: Callable[..., Any], tmp_path: Path) -> None:
    task, _ = fit([ImageScores(tmp_path)], order=(2, 0, 1))
    found = read_image_scores(tmp_path / "images" / "scores.csv")
    assert [(each.index, each.name) for each in found] == [(0, "toy-0"), (1, "toy-1"), (2, "toy-2")]
    for each in found:
        labels, mask = predicted(task, each.index).argmax(dim=0), sample(each.index)["mask"]
        wanted = scores_from_confusion(confusion_matrix(labels, mask, 2))
        assert (each.miou, each.pixels) == (pytest.approx(wanted.miou, abs=1e-6), 47)


def test_the_pictures_are_of_the_network_that_was_scored(fit: Callable[..., Any], tmp_path: Path) -> None:
    """With an average of the weights that is not what is trained."""
    before = Before()
    task, _ = fit([ImageScores(tmp_path, count=1), MovingAverage(0.9), before], steps=6)  # ends with the average
    facts = json.loads((tmp_path / "images" / "worst_1" / "image.json").read_text())
    averaged = predicted(task, facts["index"])
    task.load_state_dict(before.weights)
    trained = predicted(task, facts["index"])
    counted = sample(facts["index"])["mask"] != 255
    assert facts["confidence"] == pytest.approx(float(averaged.amax(dim=0)[counted].mean()), abs=1e-5)
    assert facts["confidence"] != pytest.approx(float(trained.amax(dim=0)[counted].mean()), abs=1e-3)
    drawn = np.asarray(Image.open(tmp_path / "images" / "worst_1" / "prediction.webp"))
    assert np.array_equal(
        drawn[:: drawn.shape[0] // 6, :: drawn.shape[1] // 8], SPACE.colorize(averaged.argmax(0).numpy())
    )


def test_images_are_of_the_best_validation_if_its_weights_are_kept(fit: Callable[..., Any], tmp_path: Path) -> None:
    class Worse(ImageScores):
        """Sees scores fall."""

        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            pl_module.last_scores = pl_module.last_scores._replace(miou=1 / (1 + trainer.global_step))
            super().on_validation_end(trainer, pl_module)

    kept = BestCheckpoint(dirpath=tmp_path / "checkpoints", monitor="val/miou", mode="max")
    for name, callbacks in {"kept": [kept], "not kept": []}.items():
        callback = Worse(tmp_path / name)
        fit([callback, *callbacks], steps=2)
        facts = tmp_path / name / "images" / "best_1" / "image.json"
        first = json.loads(facts.read_text())["confidence"]
        callback = Worse(tmp_path / name)
        fit([callback, *callbacks], steps=4)
        assert (first == json.loads(facts.read_text())["confidence"]) is (name == "kept")
        assert callback.state_dict()["best"] == pytest.approx(1 / 3 if name == "kept" else 1 / 5)


def test_thumbnails_are_of_the_first_images(fit: Callable[..., Any], tmp_path: Path) -> None:
    fit([ImageScores(tmp_path, thumbnails=2)])
    archive = tmp_path / "images" / "thumbnails.zip"
    assert read_thumbnail(archive, 1) is not None
    assert read_thumbnail(archive, 2) is None


def test_the_best_score_survives_a_resume(tmp_path: Path) -> None:
    callback = ImageScores(tmp_path)
    callback.load_state_dict({"best": 0.5})
    assert callback.state_dict() == {"best": 0.5}
