"""A run whose weights overflow ends with a sentence, and the checkpoints of before stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from omegaconf import DictConfig

from atrous.commands.train import command as entry_point
from atrous.errors import AtrousError

pytestmark = pytest.mark.integration

Compose = Callable[..., DictConfig]
OPTIONS = (
    "backbone=timm", "backbone.name=test_resnet", "model.head.aspp_channels=8", "model.head.decoder_channels=8",
    "data.dataset.size=64", "data.dataset.lengths={train: 8, val: 2, test: 2}", "data.num_workers=0",
    "augment.crop_size=33", "data.batch_size=2", "trainer=cpu", "logger=csv", "callbacks.last.every=1",
)  # fmt: skip


class Poison(Callback):
    """Makes one weight infinite, or a statistic not a number, after a step."""

    def __init__(self, step: int, where: str) -> None:
        self.step, self.where = step, where

    def on_train_batch_end(self, trainer: Any, module: Any, *args: Any) -> None:
        if trainer.global_step == self.step:
            classifier, norm = module.segmentor.head.classifier, module.segmentor.head.aspp.projection[1]
            if self.where == "weight":
                classifier.weight.data[0, 0] = float("inf")
            else:
                norm.running_var[0] = float("nan")


@pytest.mark.parametrize("callbacks", ["default", "ema"])
def test_a_learning_rate_beyond_reason_ends_the_run(callbacks: str, composed: Compose) -> None:
    words = ("trainer.max_steps=40", "validate_every=40", "trainer.log_every_n_steps=2", "task.learning_rate=1e30")
    config = composed("train", *OPTIONS, *words, f"callbacks={callbacks}")
    with pytest.raises(AtrousError, match=r"training has diverged: at step [1-3] .*task\.learning_rate=1e\+30"):
        entry_point.train(config)
    assert not (Path(config.paths.run) / "checkpoints" / "best.ckpt").exists()


@pytest.mark.parametrize("where", ["weight", "statistic"])
@pytest.mark.parametrize("step", [5, 6])  # within a stretch of three, and before a validation
def test_good_checkpoints_stay(where: str, step: int, composed: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    config = composed("train", *OPTIONS, "trainer.max_steps=9", "validate_every=3")
    build_trainer = entry_point.build_trainer

    def with_poison(config: DictConfig, *others: Callback) -> Any:
        trainer = build_trainer(config, *others)
        trainer.callbacks.insert(0, Poison(step, where))
        return trainer

    monkeypatch.setattr(entry_point, "build_trainer", with_poison)
    with pytest.raises(AtrousError, match=rf"training has diverged: at step {step}"):
        entry_point.train(config)
    folder = Path(config.paths.run) / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["best.ckpt", "last.ckpt"]
    for name, saved in (("best", 3), ("last", step - 1)):
        checkpoint = torch.load(folder / f"{name}.ckpt")
        assert checkpoint["global_step"] == saved
        assert all(tensor.isfinite().all() for tensor in checkpoint["state_dict"].values())
