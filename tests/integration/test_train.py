"""Training as a user starts it: every experiment, kills and resumes, several processes, init_from, wandb."""

from __future__ import annotations

import csv
import functools
import json
import multiprocessing
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from omegaconf import DictConfig
from tests.loggers.wandb_files import artifacts, records
from torch import Tensor

from atrous.checkpoints import Card, read_checkpoint
from atrous.checkpoints.load import load_segmentor
from atrous.commands.evaluate.command import evaluate
from atrous.commands.train import command as entry_point
from atrous.composition.parts import build_data, build_task
from atrous.data.preparation.coco_voc import draw_coco_voc
from atrous.errors import AtrousError

Command = Callable[..., subprocess.CompletedProcess[str]]
Compose = Callable[..., DictConfig]
Tiny = Callable[..., DictConfig]


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
QUICK = {
    "auto_deeplab_camvid",
    "deeplabv1_msc_vgg16_voc",
    "deeplabv3_mobilenetv2_voc",
    "deeplabv3plus_efficientnet_lite0_camvid",
    "demo",
    "own_images",
}
"""One of each kind; the others are long tests."""


# fully connected layers of 4096 channels take a gigabyte and minutes to write
NARROWER = {f"deeplabv1_vgg16_voc_{kernel}": ["model.head.channels=32"] for kernel in ("4x4", "7x7")}


# one recipe of each data set draws its figures
DRAWN = {
    "auto_deeplab_camvid",
    "auto_deeplab_cityscapes",
    "deeplabv2_resnet101_person_part",
    "deeplabv2_vgg16_pascal_context",
    "deeplabv3_mobilenetv2_coco",
    "deeplabv3_mobilenetv2_voc",
    "demo",
    "own_images",
}


# one recipe validates on images padded to 513 pixels, as many do; the others on the small ones as they are
PADDED = "deeplabv3_mobilenetv2_voc"


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.parametrize(
    "experiment",
    [pytest.param(name, marks=() if name in QUICK else pytest.mark.long) for name in EXPERIMENTS],
)
def test_every_experiment_trains_two_steps(
    experiment: str,
    composed: Compose,
    voc_folder: Path,
    camvid_folder: Path,
    cityscapes_folder: Path,
    context_folder: Path,
    person_part_folder: Path,
    coco_folder: Path,
    own_folder: Path,
    drawn: None,
    draw_nothing: Callable[[], None],
) -> None:
    if experiment not in DRAWN:
        draw_nothing()
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
        "CocoVOC": coco_folder,
        "Folder": own_folder,
    }
    for part in ("train", "val"):
        draw_coco_voc(coco_folder, part, workers=1)
    dataset = config.data.dataset._target_.rsplit(".", 1)[-1]
    if dataset in folders:
        config.data.root = str(folders[dataset])
    else:
        config.data.dataset.lengths = {"train": 6, "val": 2, "test": 2}
    config.trainer.accumulate_grad_batches = min(config.trainer.accumulate_grad_batches, 2)
    if config.backbone.get("name") == "resnet101":  # of the same blocks; tests/models has the deeper ones
        config.backbone.name = "resnet50"
    entry_point.train(config)
    run = Path(config.paths.run)
    for name in ("config.yaml", "overrides.yaml", "git_commit.txt", "metrics.csv", "summary.md", "summary.json"):
        assert (run / name).stat().st_size > 0, name
    for name in ("checkpoints/last.ckpt", "figures/curves.png", "figures/confusion.png"):
        assert (run / name).is_file(), name
    assert (run / "checkpoints" / "best.ckpt").is_file() == (config.callbacks.best is not None)
    assert any((run / "panels").glob("step_*.png")) == (config.callbacks.panels is not None)
    card, _ = read_checkpoint(run / "checkpoints" / "last.ckpt")
    assert card.score is not None
    assert card.score["protocol"]["split"] == config.data.val_split
    assert card.score["protocol"]["padded"] == ([513, 513] if experiment == PADDED else None)
    assert card.recipe["trainer"]["max_steps"] == 2
    shutil.rmtree(run / "checkpoints")  # up to a gigabyte each


@pytest.mark.integration
def test_a_run_that_keeps_no_best_checkpoint_is_scored_by_its_last(tiny: Tiny, composed: Compose) -> None:
    """What the recipe does that trains on the validation images, scored as it validates: on padded images."""
    padded = ("inference=padded", "inference.size=[65,97]")
    config = tiny("callbacks.best=null", *padded)
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
    """Stops a run as a crash would: in the step, or the validation, that follows so many batches."""

    def __init__(self, batch: int, moment: str) -> None:
        self.batch = batch
        self.moment = moment

    def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
        self._stop("train", trainer)

    def on_validation_batch_end(self, trainer: Any, *args: Any) -> None:
        if not trainer.sanity_checking:
            self._stop("validation", trainer)

    def _stop(self, moment: str, trainer: Any) -> None:
        if (
            moment == self.moment
            and trainer.fit_loop.epoch_loop.total_batch_idx + (moment == "validation") == self.batch
        ):
            raise KilledError


class KilledError(Exception):
    pass


@pytest.fixture(scope="module")
def whole(
    composed_in: Compose, tiny_options: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[tuple[str, ...]], Path]:
    """Folder of an uninterrupted run with these options."""

    @functools.cache
    def run(options: tuple[str, ...]) -> Path:
        config = composed_in(tmp_path_factory.mktemp("whole"), "train", *tiny_options, "trainer=cpu", *options)
        entry_point.train(config)
        return Path(config.paths.run)

    return run


ACCUMULATED = ("trainer.accumulate_grad_batches=2",)
EMA = ("callbacks=ema",)
BF16 = ("trainer.precision=bf16-mixed", "task.channels_last=false")


@pytest.mark.integration
@pytest.mark.parametrize(
    ("batch", "moment", "options"),
    [
        (5, "train", ()),
        (6, "validation", EMA),
        (9, "train", (*ACCUMULATED, *EMA)),
        *(
            pytest.param(*each, marks=pytest.mark.long)
            for each in (
                (1, "train", ()),
                (3, "validation", ()),
                (3, "train", ()),
                (5, "train", EMA),
                (3, "train", ACCUMULATED),
                (6, "validation", ACCUMULATED),
                (5, "train", BF16),
            )
        ),
    ],
)
def test_a_resumed_run_equals_an_uninterrupted_one(
    batch: int,
    moment: str,
    options: tuple[str, ...],
    whole: Callable[[tuple[str, ...]], Path],
    tiny: Tiny,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options += ("callbacks.last.every=1", "data.num_workers=1", "augment=color", "augment.crop_size=65")
    build_trainer = entry_point.build_trainer

    def with_kill(config: DictConfig, *others: Callback) -> Any:
        trainer = build_trainer(config, *others)
        trainer.callbacks.append(Kill(batch, moment))
        return trainer

    with monkeypatch.context() as patch:
        patch.setattr(entry_point, "build_trainer", with_kill)
        with pytest.raises(KilledError):
            entry_point.train(tiny(*options))
    assert multiprocessing.active_children() == [], "a worker left over keeps the process from ending"
    resumed = tiny(*options, "ckpt_path=last")
    entry_point.train(resumed)

    first, second = whole(options), Path(resumed.paths.run)
    for name in ("last", "best"):
        assert_same(*(weights(run / "checkpoints" / f"{name}.ckpt") for run in (first, second)))
    assert rows(first / "metrics.csv") == rows(second / "metrics.csv")
    assert (first / "summary.json").read_text() == (second / "summary.json").read_text()


@pytest.mark.integration
@pytest.mark.slow
def test_a_killed_process_continues_with_ckpt_path_last(
    tiny_options: tuple[str, ...], command: Command, kill_after_a_checkpoint: Callable[..., None], tmp_path: Path
) -> None:
    """SIGKILL at an arbitrary moment, then the same command with ckpt_path=last, against an undisturbed run."""
    options = [*tiny_options, "trainer=cpu", "callbacks.last.every=1"]
    whole = command("train.py", *options, f"paths.logs={tmp_path / 'whole'}", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    kill_after_a_checkpoint("train.py", *options, logs=tmp_path / "broken")
    options.append(f"paths.logs={tmp_path / 'broken'}")
    resumed = command("train.py", *options, "ckpt_path=last", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    checkpoints = [next((tmp_path / logs).rglob("last.ckpt")) for logs in ("whole", "broken")]
    assert_same(*(weights(path) for path in checkpoints))
    assert rows(next((tmp_path / "whole").rglob("metrics.csv"))) == rows(
        next((tmp_path / "broken").rglob("metrics.csv"))
    )


@pytest.mark.integration
@pytest.mark.slow
def test_two_processes_equal_one(
    repository: Path, tiny_options: tuple[str, ...], trained: Any, command: Command, tmp_path: Path
) -> None:
    """The same steps on one and on two CPU processes: the same weights up to rounding, and exactly the same counts.

    A weight that was rounded otherwise may move a pixel, so the scores that two processes count together, two images
    and one, are compared with those of one process that has their weights. Of equal quotients of whole numbers the
    whole numbers are equal too, as the pixels of each class are known.
    """
    options = [*tiny_options, "validate_every=6", "task.freeze_batch_norm=true", "model.head.dropout=0"]
    options += [f"init_from={trained.folder / 'checkpoints' / 'best.ckpt'}", "task.learning_rate=1e-4"]
    alone = command("train.py", *options, "trainer=cpu", f"paths.run={tmp_path / 'alone'}", cwd=tmp_path)
    assert alone.returncode == 0, alone.stderr
    script = [sys.executable, str(repository / "src" / "train.py"), *options]
    done = subprocess.run(
        [*script, "trainer=ddp_cpu", f"paths.run={tmp_path / 'both'}"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    one, both = (weights(tmp_path / run / "checkpoints" / "last.ckpt") for run in ("alone", "both"))
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, both[name], rtol=1e-4, atol=1e-6, msg=name)

    written = json.loads((tmp_path / "both" / "summary.json").read_text())["scores"][-1]
    scored = command(
        "evaluate.py",
        f"ckpt_path={tmp_path / 'both' / 'checkpoints' / 'last.ckpt'}",
        "output=scores.json",
        cwd=tmp_path,
    )
    assert scored.returncode == 0, scored.stderr
    again = json.loads((tmp_path / "scores.json").read_text())
    assert written["protocol"]["split"] == again["protocol"]["split"] == "val"
    names = ("miou", "pixel_accuracy", "mean_accuracy", "frequency_weighted_iou", "iou", "accuracy")
    assert [written[name] for name in names] == [again[name] for name in names]
    assert sum(iou > 0 for iou in again["iou"].values() if iou is not None) >= 4


@pytest.mark.long
@pytest.mark.integration
def test_two_processes_refuse_a_single_image_to_score(
    repository: Path, tiny_options: tuple[str, ...], tmp_path: Path
) -> None:
    options = [*tiny_options, "trainer=ddp_cpu", "data.dataset.lengths={train: 10, val: 1, test: 2}"]
    script = [sys.executable, str(repository / "src" / "train.py"), *options, f"paths.run={tmp_path / 'run'}"]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "error: shapes val has fewer images (1) than there are processes (2)" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.integration
def test_checkpoints_are_plain_and_rebuild_the_network(trained: Any) -> None:
    path = trained.folder / "checkpoints" / "last.ckpt"
    card = Card.of(torch.load(path, weights_only=True))
    assert card.label_space == trained.task.label_space
    segmentor, _ = load_segmentor(path)
    segmentor.to(memory_format=torch.channels_last)  # as the task's, so that roundings are the same
    image = torch.randint(0, 256, (1, 3, 50, 71), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = trained.task.eval().segmentor(image)
        torch.testing.assert_close(segmentor(image), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.integration
def test_init_from_lists_every_tensor_that_does_not_fit(
    trained: Any, tiny: Tiny, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = trained.folder / "checkpoints" / "last.ckpt"
    entry_point.train(tiny(f"init_from={checkpoint}", "model.head.decoder_channels=24", "trainer.max_steps=3"))
    said = capsys.readouterr().out
    assert "dropped head.classifier.weight: shape [8, 16, 1, 1], the network's is [8, 24, 1, 1]" in said
    assert "missing head.classifier.weight" in said


@pytest.mark.integration
def test_init_from_a_run_takes_its_best_checkpoint_or_else_the_last(
    trained: Any, tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "first"
    shutil.copytree(trained.folder / "checkpoints", run / "checkpoints")
    config = tiny(f"init_from={run}")
    for name in ("best", "last"):
        checkpoint = run / "checkpoints" / f"{name}.ckpt"
        segmentor = build_task(config, build_data(config.data)).segmentor
        assert f"init_from: reading {checkpoint}\n" in capsys.readouterr().out
        assert_same(weights(checkpoint), {f"segmentor.{key}": each for key, each in segmentor.state_dict().items()})
        checkpoint.unlink()
    with pytest.raises(AtrousError, match=r"first holds no checkpoints/best\.ckpt or last\.ckpt"):
        build_task(config, build_data(config.data))


@pytest.mark.integration
def test_wandb_offline_gets_all_of_it_and_goes_on_when_the_run_does(
    tiny: Tiny, drawn: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    config = tiny("logger=wandb", "logger.wandb.offline=true", "logger.wandb.group=together")
    entry_point.train(config)
    run = Path(config.paths.run)
    identity = (run / "wandb_id.txt").read_text().strip()
    found = records(run)
    (header,) = [each.run for each in found if each.HasField("run")]
    assert (header.run_id, header.run_group, header.project) == (identity, "together", "atrous")
    logged = [
        {item.nested_key[0] or item.key for item in each.history.item} for each in found if each.HasField("history")
    ]
    assert {"val/miou", "val/iou/disk", "panels", "classes", "confusion_matrix", "images"} <= set.union(*logged)
    assert {each.metric.name for each in found if each.HasField("metric") and each.metric.summary.max} >= {"val/miou"}
    kept = {alias: each for each in artifacts(run) if each.type == "model" for alias in each.aliases}
    assert {"best", "last"} <= set(kept)
    assert json.loads(kept["last"].metadata)["step"] == 6
    tables = [each for each in artifacts(run) if each.name.endswith("-images")]
    assert any("/mask/" in content.path for content in tables[-1].manifest.contents)

    again = tiny("logger=wandb", "logger.wandb.offline=true", "ckpt_path=last", "trainer.max_steps=9")
    entry_point.train(again)
    assert {each.run.run_id for each in records(run) if each.HasField("run")} == {identity}
    steps = [json.loads(each.metadata).get("step") for each in artifacts(run) if "last" in each.aliases]
    assert steps == [6, 9]


@pytest.mark.integration
def test_a_run_says_what_it_starts_from(trained: Any) -> None:
    assert "training on 10 images of shapes, from random weights" in trained.said
