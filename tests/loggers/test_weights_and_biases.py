"""W&B without a network: one id per run folder, and nothing open afterward."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from atrous.errors import AtrousError
from atrous.loggers import WeightsAndBiases, finish_wandb, image_loggers


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


def test_checkpoints_cannot_be_uploaded_offline(tmp_path: Path) -> None:
    with pytest.raises(AtrousError, match="log_model"):
        WeightsAndBiases(tmp_path, offline=True, log_model=True)


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
