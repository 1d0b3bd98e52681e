"""Training as a user starts it: every experiment, kills and resumes, several processes, init_from, wandb."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from omegaconf import DictConfig
from torch import Tensor

import train as entry_point
from atrous.checkpoints import Card, read_checkpoint
from atrous.composition import load_segmentor
from evaluate import evaluate

Compose = Callable[..., DictConfig]

TINY = (
    "backbone.name=resnet18",
    "model.head.aspp_channels=16",
    "model.head.decoder_channels=16",
    "data.dataset.size=64",
    "data.dataset.lengths={train: 10, val: 3, test: 2}",
    "augment.crop_size=65",
    "data.batch_size=4",
    "data.eval_batch_size=1",
    "data.num_workers=0",
    "trainer.accelerator=cpu",
)


def tiny(composed: Compose, *overrides: str, run: str = "run") -> DictConfig:
    """A run of six steps with a validation after every third."""
    return composed("train", *TINY, "trainer.max_steps=6", "validate_every=3", "logger=csv", *overrides, run=run)


def weights(checkpoint: Path) -> dict[str, Tensor]:
    loaded: dict[str, Any] = torch.load(checkpoint, weights_only=True)
    return loaded["state_dict"]


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


EXPERIMENTS = sorted(path.stem for path in (Path(__file__).parents[2] / "conf" / "experiment").glob("*.yaml"))


# fully connected layers of 4096 channels take a gigabyte and minutes to write
NARROWER = {f"deeplabv1_vgg16_voc_{kernel}": ["model.head.channels=32"] for kernel in ("4x4", "7x7")}


# one recipe validates on images padded to 513 pixels, as many do; the others on the small ones as they are
PADDED = "deeplabv3_mobilenetv2_voc"


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_trains_two_steps(
    experiment: str,
    composed: Compose,
    voc_folder: Path,
    camvid_folder: Path,
    cityscapes_folder: Path,
    context_folder: Path,
    person_part_folder: Path,
) -> None:
    config = composed(
        "train",
        f"experiment={experiment}",
        "trainer.max_steps=2",
        "validate_every=2",
        "trainer.accelerator=cpu",
        "trainer.devices=1",
        "data.batch_size=2",
        "data.num_workers=0",
        "augment.crop_size=65",
        "backbone.pretrained=false",
        "init_from=null",
        "+trainer.limit_val_batches=1",
        *(() if experiment == PADDED else ("inference=whole_image",)),
        *NARROWER.get(experiment, ()),
    )
    folders = {
        "VOC2012": voc_folder,
        "CamVid": camvid_folder,
        "Cityscapes": cityscapes_folder,
        "PascalContext": context_folder,
        "PersonPart": person_part_folder,
    }
    dataset = config.data.dataset._target_.rsplit(".", 1)[-1]
    if dataset in folders:
        config.data.root = str(folders[dataset])
    entry_point.train(config)
    run = Path(config.paths.run)
    for name in ("config.yaml", "overrides.yaml", "git_commit.txt", "metrics.csv", "summary.md", "summary.json"):
        assert (run / name).stat().st_size > 0, name
    for name in ("checkpoints/last.ckpt", "figures/curves.png", "figures/confusion.png"):
        assert (run / name).is_file(), name
    assert (run / "checkpoints" / "best.ckpt").is_file() == (config.callbacks.best is not None)
    assert list((run / "panels").glob("step_*.png"))
    card, _ = read_checkpoint(run / "checkpoints" / "last.ckpt")
    assert card.score is not None
    assert card.score["protocol"]["split"] == config.data.val_split
    assert card.score["protocol"]["padded"] == ([513, 513] if experiment == PADDED else None)
    assert card.recipe["trainer"]["max_steps"] == 2
    shutil.rmtree(run / "checkpoints")  # up to a gigabyte each


@pytest.mark.integration
def test_a_run_that_keeps_no_best_checkpoint_is_scored_by_its_last(composed: Compose) -> None:
    """What the recipe does that trains on the validation images, scored as it validates: on padded images."""
    padded = ("inference=padded", "inference.size=[65,97]")
    config = tiny(composed, "callbacks.best=null", *padded)
    entry_point.train(config)
    run = Path(config.paths.run)
    (trained,) = json.loads((run / "summary.json").read_text())["scores"]
    assert (trained["label"], trained["step"]) == ("last", 6)
    scoring = composed("evaluate", f"ckpt_path={run}", *padded, "trainer.accelerator=cpu", run="scored")
    evaluate(scoring)
    scores = json.loads((Path(scoring.paths.run) / "scores.json").read_text())
    assert scores["protocol"]["checkpoint"] == str(run / "checkpoints" / "last.ckpt")
    assert scores["protocol"]["padded"] == trained["protocol"]["padded"] == [65, 97]
    assert scores["miou"] == pytest.approx(trained["miou"], abs=1e-6)


class Kill(Callback):
    """Stops a run as a crash would, at a chosen moment."""

    def __init__(self, step: int, moment: str) -> None:
        self.step = step
        self.moment = moment

    def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
        if self.moment == "train" and trainer.global_step == self.step:
            raise KilledError

    def on_validation_batch_end(self, trainer: Any, *args: Any) -> None:
        if self.moment == "validation" and trainer.global_step == self.step and not trainer.sanity_checking:
            raise KilledError


class KilledError(Exception):
    pass


@pytest.mark.integration
@pytest.mark.parametrize(
    ("step", "moment", "callbacks"),
    [
        (1, "train", "default"),
        (3, "validation", "default"),
        (3, "train", "default"),
        (5, "train", "default"),
        (5, "train", "ema"),
        (6, "validation", "ema"),
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one(
    step: int, moment: str, callbacks: str, composed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = (f"callbacks={callbacks}", "callbacks.last.every=1", "data.num_workers=1", "augment=color")
    options += ("augment.crop_size=65",)
    whole = tiny(composed, *options, run="whole")
    entry_point.train(whole)

    broken = tiny(composed, *options, run="broken")
    build_trainer = entry_point.build_trainer

    def with_kill(config: DictConfig) -> Any:
        trainer = build_trainer(config)
        trainer.callbacks.append(Kill(step, moment))
        return trainer

    monkeypatch.setattr(entry_point, "build_trainer", with_kill)
    with pytest.raises(KilledError):
        entry_point.train(broken)
    monkeypatch.undo()
    resumed = tiny(composed, *options, "ckpt_path=last", run="broken")
    entry_point.train(resumed)

    for name in ("last", "best"):
        first, second = (Path(c.paths.run) / "checkpoints" / f"{name}.ckpt" for c in (whole, resumed))
        assert_same(weights(first), weights(second))
    assert rows(Path(whole.paths.run) / "metrics.csv") == rows(Path(resumed.paths.run) / "metrics.csv")


@pytest.mark.integration
@pytest.mark.slow
def test_a_killed_process_continues_with_ckpt_path_last(repository: Path, tmp_path: Path) -> None:
    """SIGKILL at an arbitrary moment, then the same command with ckpt_path=last, against an undisturbed run."""

    def command(logs: str, *extra: str) -> list[str]:
        script = str(repository / "src" / "train.py")
        options = ["trainer.max_steps=6", "validate_every=3", "logger=csv", "callbacks.last.every=1"]
        return [sys.executable, script, *TINY, *options, f"paths.logs={tmp_path / logs}", *extra]

    subprocess.run(command("whole"), check=True, cwd=tmp_path, capture_output=True)
    process = subprocess.Popen(command("broken"), cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "broken").rglob("last.ckpt")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    subprocess.run(command("broken", "ckpt_path=last"), check=True, cwd=tmp_path, capture_output=True)
    checkpoints = [next((tmp_path / logs).rglob("last.ckpt")) for logs in ("whole", "broken")]
    assert_same(*(weights(path) for path in checkpoints))
    assert rows(next((tmp_path / "whole").rglob("metrics.csv"))) == rows(
        next((tmp_path / "broken").rglob("metrics.csv"))
    )


@pytest.mark.integration
@pytest.mark.slow
def test_two_processes_equal_one(repository: Path, tmp_path: Path) -> None:
    """Same steps on one and on two CPU processes: the same weights up to rounding, and exactly the same counts."""
    script = str(repository / "src" / "train.py")
    options = ["trainer.max_steps=3", "validate_every=3", "task.freeze_batch_norm=true", "model.head.dropout=0"]
    scores = []
    states = []
    for trainer in ("cpu", "ddp_cpu"):
        tiny_options = [option for option in TINY if not option.startswith("trainer")]
        command = [
            sys.executable,
            script,
            *tiny_options,
            *options,
            f"trainer={trainer}",
            f"paths.logs={tmp_path / trainer}",
        ]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        run = next((tmp_path / trainer).rglob("last.ckpt")).parents[1]
        states.append(weights(run / "checkpoints" / "last.ckpt"))
        scores.append(json.loads((run / "summary.json").read_text())["scores"])
    for name, tensor in states[0].items():
        torch.testing.assert_close(tensor, states[1][name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.integration
def test_checkpoints_are_plain_and_rebuild_the_network(composed: Compose) -> None:
    config = tiny(composed)
    task = entry_point.train(config)
    path = Path(config.paths.run) / "checkpoints" / "last.ckpt"
    card = Card.of(torch.load(path, weights_only=True))
    assert card.label_space == task.label_space
    segmentor, _ = load_segmentor(path)
    image = torch.randint(0, 256, (1, 3, 50, 71), dtype=torch.uint8)
    task.eval()
    with torch.no_grad():
        torch.testing.assert_close(segmentor(image), task.segmentor(image), rtol=1e-4, atol=1e-5)


@pytest.mark.integration
def test_init_from_lists_every_tensor_that_does_not_fit(composed: Compose, capsys: pytest.CaptureFixture[str]) -> None:
    first = tiny(composed, run="first")
    entry_point.train(first)
    capsys.readouterr()
    checkpoint = Path(first.paths.run) / "checkpoints" / "last.ckpt"
    second = tiny(
        composed, f"init_from={checkpoint}", "model.head.decoder_channels=24", "trainer.max_steps=3", run="second"
    )
    entry_point.train(second)
    said = capsys.readouterr().out
    assert "dropped head.classifier.weight: shape [8, 16, 1, 1], the network's is [8, 24, 1, 1]" in said
    assert "missing head.classifier.weight" in said


@pytest.mark.integration
def test_wandb_offline_gets_curves_pictures_and_tables(composed: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(composed, "logger=wandb", "logger.wandb.offline=true")
    entry_point.train(config)
    run = Path(config.paths.run)
    identity = (run / "wandb_id.txt").read_text().strip()
    offline = [path for path in (run / "wandb").glob("offline-run-*") if path.name.endswith(identity)]
    assert offline
    media = [path.name for path in offline[0].rglob("*") if path.is_file()]
    assert any(name.endswith(".png") for name in media)
    assert any(name.endswith(".table.json") for name in media)
    again = tiny(composed, "logger=wandb", "logger.wandb.offline=true", "ckpt_path=last", "trainer.max_steps=9")
    entry_point.train(again)
    assert (run / "wandb_id.txt").read_text().strip() == identity


@pytest.mark.integration
def test_a_run_says_what_it_starts_from(composed: Compose, capsys: pytest.CaptureFixture[str]) -> None:
    entry_point.train(tiny(composed))
    assert "training on 10 images of shapes, from random weights" in capsys.readouterr().out
