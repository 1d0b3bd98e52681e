"""A run whose weights overflow ends with a sentence, and the checkpoints of before stay as they are."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from omegaconf import DictConfig

from atrous.commands.prepare import command as prepare
from atrous.commands.train import command as entry_point
from atrous.errors import AtrousError
from atrous.training import KeptBatch

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


class Blind(Callback):
    """Makes the photographs of some steps so bright that the network cannot count so far; says what was logged."""

    def __init__(self, *steps: int) -> None:
        self.steps = steps
        self.skipped: list[float] = []

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step in self.steps:
            batch["image"] = torch.full_like(batch["image"], 255, dtype=torch.float32) * 1e36

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if "train/skipped" in trainer.callback_metrics:
            self.skipped.append(float(trainer.callback_metrics["train/skipped"]))


def train_blind(config: DictConfig, blind: Blind, monkeypatch: pytest.MonkeyPatch) -> Any:
    build_trainer = entry_point.build_trainer

    def with_callback(config: DictConfig, *others: Callback) -> Any:
        trainer = build_trainer(config, *others)
        trainer.callbacks.insert(0, blind)
        return trainer

    with monkeypatch.context() as patch:
        patch.setattr(entry_point, "build_trainer", with_callback)
        return entry_point.train(config)


STEPS = ("trainer.max_steps=6", "validate_every=3", "data.num_workers=0")


def test_a_batch_that_fails_is_kept_and_computed_again(
    composed: Compose, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = composed("train", *OPTIONS, *STEPS)
    with pytest.raises(
        AtrousError, match=r"diverged: at step 4 the loss is not finite but (nan|inf) \(images \w+, \w+\)"
    ) as stop:
        train_blind(config, Blind(4), monkeypatch)
    (path,) = (Path(config.paths.run) / "not_finite").iterdir()
    said = re.search(r"`python src/prepare.py (task=replay replay.path=\S+)` computes it again", str(stop.value))
    assert said is not None
    assert str(path) in said[1]
    kept = KeptBatch.read(path)
    assert (kept.step, len(kept.names)) == (4, 2)
    last = torch.load(Path(config.paths.run) / "checkpoints" / "last.ckpt")
    assert last["global_step"] == 4  # as it was before the batch
    capsys.readouterr()
    prepare.prepare(composed("prepare", *shlex.split(said[1]), run="replay"))
    found = capsys.readouterr().out
    assert ", ".join(kept.names) in found
    assert re.search(r"first result that is not finite: backbone\.\S+ \(\w+\) of finite inputs", found), found


def test_a_weight_that_fails_is_named(
    composed: Compose, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Infinite(Blind):
        def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
            if trainer.global_step in self.steps:
                module.segmentor.head.classifier.weight.data[0, 0] = float("inf")

    config = composed("train", *OPTIONS, *STEPS)
    with pytest.raises(AtrousError, match="at step 1 the loss is not finite"):
        train_blind(config, Infinite(1), monkeypatch)
    (path,) = (Path(config.paths.run) / "not_finite").iterdir()
    capsys.readouterr()
    prepare.prepare(composed("prepare", "task=replay", f"replay.path={path}", run="replay"))
    found = capsys.readouterr().out
    assert "weights that are not finite: segmentor.head.classifier.weight" in found
    assert re.search(r"first result that is not finite: head\.classifier \(\w+\) of finite inputs", found), found


def test_such_batches_are_left_out_and_counted(
    composed: Compose, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They change nothing: no weight, no statistic; and one more than may be left out ends the run."""
    blind = Blind(1, 2)
    task = train_blind(composed("train", *OPTIONS, *STEPS, "task.skip_not_finite=2"), blind, monkeypatch)
    assert blind.skipped[-1] == 2
    assert "left out, 2 of at most 2: at step 2 the loss is" in capsys.readouterr().out
    assert all(tensor.isfinite().all() for tensor in task.state_dict().values())
    assert task.trainer.global_step == 6
    with pytest.raises(AtrousError, match="at step 4 the loss is"):
        train_blind(composed("train", *OPTIONS, *STEPS, "task.skip_not_finite=2", run="b"), Blind(1, 2, 4), monkeypatch)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])  # fused, both
def test_a_step_without_gradient_changes_nothing(
    optimizer: str, composed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[int, dict[str, torch.Tensor]] = {}

    class Look(Blind):
        def on_train_batch_end(self, trainer: Any, module: Any, *args: Any) -> None:
            seen[trainer.global_step] = {name: each.clone() for name, each in module.state_dict().items()}

    train_blind(
        composed("train", *OPTIONS, *STEPS, "task.skip_not_finite=1", f"optimizer={optimizer}"), Look(3), monkeypatch
    )
    same = [all(torch.equal(seen[step][name], seen[step + 1][name]) for name in seen[1]) for step in range(1, 6)]
    assert same == [False, False, True, False, False]


def test_what_is_no_kept_batch(composed: Compose, tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "other.pt")
    fields = {"image": 1, "mask": 2, "names": 3, "step": 4, "seed": 5, "loss": 6}
    torch.save({"state_dict": {}, "batch": fields}, tmp_path / "types.pt")
    others = [(tmp_path / name, "holds no batch of a step that failed") for name in ("other.pt", "types.pt")]
    for path, words in (("null", "replay.path is missing"), *others):
        with pytest.raises(AtrousError, match=words):
            prepare.prepare(composed("prepare", "task=replay", f"replay.path={path}"))


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
    assert sorted(path.name for path in folder.iterdir()) == ["before_last.ckpt", "best.ckpt", "last.ckpt"]
    for name, saved in (("best", 3), ("last", step - 1)):
        checkpoint = torch.load(folder / f"{name}.ckpt")
        assert checkpoint["global_step"] == saved
        assert all(tensor.isfinite().all() for tensor in checkpoint["state_dict"].values())
