"""W&B without a network: one id per run folder, and nothing open afterward."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from tests.loggers.wandb_files import artifacts, records

from atrous.loggers import LabeledImage, WeightsAndBiases, finish_wandb, image_loggers


@pytest.fixture(autouse=True)
def _no_settings_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in list(os.environ):
        if name.startswith("WANDB_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("WANDB_DISABLE_GIT", "true")
    yield
    finish_wandb()


def test_offline_run_is_written_and_continued(tmp_path: Path) -> None:
    import wandb

    run_dir = tmp_path / "run"
    logger = WeightsAndBiases(run_dir, offline=True)
    logger.log_hyperparams({"model": {"head": "deeplabv3plus"}, "steps": 3})
    logger.log_metrics({"train/loss": 0.5}, step=0)
    (images,) = image_loggers([logger])
    images.log_panel("panels", np.zeros((4, 5, 3), dtype=np.uint8), step=1)
    images.log_table("iou", ["class", "IoU"], [["sky", 0.5], ["pole", None]], step=1)
    images.log_figure("confusion", Figure(), step=1)
    assert logger.experiment.settings.mode == "offline"
    assert dict(logger.experiment.config)["model"] == {"head": "deeplabv3plus"}
    summary = logger.experiment.summary
    assert summary["train/loss"] == 0.5
    assert summary["panels"]["_type"] == "image-file"
    assert summary["iou"]["_type"] == "table-file"
    assert summary["confusion"]["_type"] == "image-file"
    first = logger.experiment.id
    finish_wandb()
    assert wandb.run is None

    again = WeightsAndBiases(run_dir, offline=True)
    again.log_metrics({"train/loss": 0.4}, step=1)
    assert again.experiment.id == first == (run_dir / "wandb_id.txt").read_text().strip()
    finish_wandb()

    # two folders of the same second are told apart by a number after the id, so the files are looked at
    written = [file.stem for file in (run_dir / "wandb").glob("offline-run-*/run-*.wandb")]
    assert written == [f"run-{first}"] * 2
    assert "WANDB_MODE" not in os.environ


def test_run_folders_get_ids_of_their_own(tmp_path: Path) -> None:
    for name in ("a", "b"):
        WeightsAndBiases(tmp_path / name, offline=True)
    ids = [(tmp_path / name / "wandb_id.txt").read_text() for name in ("a", "b")]
    assert ids[0] != ids[1]
    assert WeightsAndBiases(tmp_path / "a", offline=True).version == ids[0].strip()


def test_the_summary_has_the_best_of_each_score(tmp_path: Path) -> None:
    logger = WeightsAndBiases(tmp_path, offline=True)
    for step, (miou, loss) in enumerate([(0.3, 0.5), (0.6, 0.2), (0.4, 0.3)]):
        logger.log_metrics({"val/miou": miou, "val/loss": loss, "train/loss": loss}, step=step)
    finish_wandb()
    metrics = {each.metric.name: each.metric for each in records(tmp_path) if each.HasField("metric")}
    assert metrics["val/miou"].summary.max
    assert metrics["val/miou"].step_metric == "trainer/global_step"
    assert metrics["val/loss"].summary.min


def test_checkpoints_are_artifacts_with_their_scores(tmp_path: Path) -> None:
    logger = WeightsAndBiases(tmp_path, offline=True, log_model=True)
    logger.log_metrics({"train/loss": 0.5}, step=0)
    (tmp_path / "checkpoints").mkdir()
    for name in ("best", "last"):
        (tmp_path / "checkpoints" / f"{name}.ckpt").write_text(name)
    entry = {"miou": 0.5, "pixel_accuracy": 0.6, "mean_accuracy": 0.7, "protocol_line": "voc val", "iou": {}}
    scores = [{"label": name, "step": step, **entry} for name, step in (("best", 10), ("last", 20))]
    (tmp_path / "summary.json").write_text(json.dumps({"scores": scores}))
    logger.finalize("success")
    finish_wandb()
    kept = {alias: each for each in artifacts(tmp_path) for alias in set(each.aliases) - {"latest"}}
    assert set(kept) == {"best", "last"}
    for name, step in (("best", 10), ("last", 20)):
        found = kept[name]
        assert (found.type, found.name) == ("model", f"checkpoint-{logger.version}")
        metadata = json.loads(found.metadata)
        assert (metadata["step"], metadata["miou"], metadata["protocol_line"]) == (step, 0.5, "voc val")
        assert [content.path for content in found.manifest.contents] == [f"{name}.ckpt"]


def test_without_log_model_no_checkpoint_is_kept(tmp_path: Path) -> None:
    logger = WeightsAndBiases(tmp_path, offline=True)
    logger.log_metrics({"train/loss": 0.5}, step=0)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").write_text("last")
    logger.finalize("success")
    finish_wandb()
    assert artifacts(tmp_path) == []


def test_labeled_images_are_rows_whose_masks_are_switched_on_and_off(tmp_path: Path) -> None:
    logger = WeightsAndBiases(tmp_path, offline=True)
    (images,) = image_loggers([logger])
    masks = [np.full((4, 6), value, dtype=np.uint8) for value in (0, 255, 1)]
    picture = np.zeros((4, 6, 3), dtype=np.uint8)
    shown = LabeledImage("worst", "a/b", {"mIoU": 0.25, "confidence": 0.5}, picture, masks[1], masks[2], picture)
    images.log_labeled("images", [shown], {0: "sky", 1: "sea", 255: "ignored"}, step=3)
    finish_wandb()
    (artifact,) = artifacts(tmp_path)
    files = {content.path: Path(content.local_path) for content in artifact.manifest.contents}
    table = json.loads(files["images.table.json"].read_text())
    assert table["columns"] == ["group", "name", "image", "mIoU", "confidence"]
    ((group, name, image, *numbers),) = table["data"]
    assert (group, name, numbers) == ("worst", "a/b", [0.25, 0.5])
    shown = {key: np.asarray(Image.open(files[mask["path"]])) for key, mask in image["masks"].items()}
    assert np.array_equal(shown["truth"], masks[1])
    assert np.array_equal(shown["prediction"], masks[2])
    labels = json.loads(files[image["classes"]["path"]].read_text())["class_set"]
    assert {each["id"]: each["name"] for each in labels} == {0: "sky", 1: "sea", 255: "ignored"}


@pytest.mark.long
def test_wandb_is_imported_only_when_something_is_logged(repository: Path, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from atrous.loggers import WeightsAndBiases, finish_wandb\n"
        f"WeightsAndBiases({str(tmp_path)!r}, offline=True)\n"
        "finish_wandb()\n"
        "sys.exit('wandb' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(repository / "src")})
    assert done.returncode == 0
