"""A run of the time before format 2: it is scored as it was then, and goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from atrous.checkpoints.card import Card, load_plain
from atrous.commands.evaluate.command import evaluate
from atrous.commands.train import command as train
from atrous.composition import continue_recorded_run

pytestmark = [pytest.mark.integration, pytest.mark.slow]

OLD = Path(__file__).parents[1] / "checkpoints" / "format_1" / "run.ckpt"
# what src/evaluate.py printed then
MIOU, PIXEL_ACCURACY = 0.017262314120740627, 0.03309493759641004
IOU = {"background": 0.014545454545454545, "star": 0.0546875, "ring": 0.04287962234461054, "square": 0.0}


def test_scores_are_those_of_then(composed: Callable[..., DictConfig]) -> None:
    config = composed("evaluate", f"ckpt_path={OLD}", "trainer=cpu")
    evaluate(config)
    scores = json.loads((Path(config.paths.run) / "scores.json").read_text())
    assert scores["miou"] == pytest.approx(MIOU, abs=1e-4)
    assert scores["pixel_accuracy"] == pytest.approx(PIXEL_ACCURACY, abs=1e-4)
    assert {name: scores["iou"][name] for name in IOU} == pytest.approx(IOU, abs=1e-3)


def test_the_run_goes_on(composed: Callable[..., DictConfig], tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    last = run / "checkpoints" / "last.ckpt"
    shutil.copy(OLD, last)
    words = continue_recorded_run([f"ckpt_path={run}", "trainer.max_steps=9"])
    words = [word for word in words if not word.startswith("paths.")]
    train.train(composed("train", *words))
    before, after = load_plain(OLD), load_plain(last)
    assert (before["global_step"], after["global_step"]) == (6, 9)
    assert (before[Card.KEY]["format"], after[Card.KEY]["format"]) == (1, 2)
    assert before["state_dict"].keys() == after["state_dict"].keys()
    moved = [
        name for name, tensor in after["state_dict"].items() if not torch.equal(tensor, before["state_dict"][name])
    ]
    assert "segmentor.head.classifier.weight" in moved
    weight = "segmentor.head.classifier.weight"
    torch.testing.assert_close(after["state_dict"][weight], before["state_dict"][weight], atol=0.1, rtol=0)
