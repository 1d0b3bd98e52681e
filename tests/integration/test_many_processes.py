"""Training on one, two and four processes, whole or shared out: what is learned, counted and written is the same."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

pytestmark = [pytest.mark.integration, pytest.mark.long]

STEADY = ("trainer.max_steps=9", "task.freeze_batch_norm=true", "trainer.log_every_n_steps=1")
SPIED = "+callbacks.spy._target_=spy.Stopped"
CPU = ("trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.sync_batchnorm=false")
DESCRIPTION = """
name: rods
images: images/{name}.png
masks: masks/{name}.png
classes: {background: 0, rod: 1, rare: 2}
splits: {train: train/*, val: val/*}
"""

SPY = """
import os, signal
from lightning.pytorch import Callback
class Stopped(Callback):
    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.global_step == int(os.environ["STOP"]):
            os.kill(os.getpid(), signal.SIGTERM)
"""

Train = Callable[..., str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Nine training and five validation images; class 2 is in one of them, and class 1 in few pixels."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 9), ("val", 5)):
        for number in range(count):
            image = rng.integers(0, 256, (6, 7, 3), dtype=np.uint8).repeat(12, axis=0).repeat(12, axis=1)
            mask = np.zeros((72, 84), dtype=np.uint8)
            mask[10 : 14 + 3 * number, 20:40] = 1
            if number == 4:
                mask[50:60, :30] = 2
            for kind, pixels in (("images", image), ("masks", mask)):
                path = tmp_path / "data" / kind / split / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    (tmp_path / "data" / "atrous.yaml").write_text(DESCRIPTION, encoding="utf-8")
    return tmp_path / "data"


@pytest.fixture
def train(repository: Path, tmp_path: Path, tiny_options: tuple[str, ...]) -> Train:
    """Train in a folder of its own, for its paths as well."""

    (tmp_path / "spy.py").write_text(SPY, encoding="utf-8")

    def start(name: str, *words: str, status: int = 0, stop: int = -1) -> str:
        place = tmp_path / name
        small = [
            word for word in tiny_options if not word.startswith(("data.dataset.", "model.head.", "trainer.max_steps"))
        ]
        paths = [f"paths.{each}={place / each}" for each in ("logs", "cache", "statistics", "label_codes")]
        done = subprocess.run(
            [sys.executable, str(repository / "src" / "train.py"), *small, *STEADY, *words, SPIED, *paths],
            cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tmp_path), "STOP": str(stop)},
            capture_output=True, encoding="utf-8", timeout=250,
        )  # fmt: skip
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr

    return start


def rows(place: Path) -> list[dict[str, float]]:
    """What was logged."""
    (path,) = place.rglob("metrics.csv")
    with path.open(encoding="utf-8") as file:
        return [{name: float(text) for name, text in row.items() if text} for row in csv.DictReader(file)]


def checkpoint(place: Path, name: str = "last") -> dict[str, Any]:
    (path,) = place.rglob(f"{name}.ckpt")
    found: dict[str, Any] = torch.load(path, weights_only=True)
    return found


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


def require_equal(found: Path, wanted: Path) -> None:
    """The same losses, scores and weights, averaged ones as well, but for the order of additions."""
    for row, other in zip(rows(found), rows(wanted), strict=True):
        assert row == pytest.approx(other, rel=2e-4, nan_ok=True)
    theirs, ours = checkpoint(wanted), checkpoint(found)
    assert ours.keys() == theirs.keys()
    for kind in {"state_dict", "current_model_state"} & theirs.keys():
        for name, tensor in theirs[kind].items():
            torch.testing.assert_close(ours[kind][name], tensor, rtol=1e-3, atol=1e-5, msg=f"{kind}: {name}")


def test_one_two_and_four_processes_learn_the_same(train: Train, folder: Path, tmp_path: Path) -> None:
    """Class weights, repeats, several scales in the network, a moving average, and a cache that is filled meanwhile."""
    words = (
        "data=folder", f"data.root={folder}", "model=deeplabv2", "model.scales=[1,0.5]", "backbone.pretrained=false",
        "loss.class_weights=auto",
        "data.repeat_threshold=0.5", "data.cache=disk", "callbacks=ema",
    )  # fmt: skip
    for processes in (1, 2, 4):
        strategy = "trainer=cpu" if processes == 1 else "trainer=ddp_cpu"
        train(str(processes), *words, strategy, f"trainer.devices={processes}")
    for processes in ("2", "4"):
        require_equal(tmp_path / processes, tmp_path / "1")
        assert files_of(tmp_path / processes / "statistics") == files_of(tmp_path / "1" / "statistics") != {}
        assert len(list((tmp_path / processes / "logs").rglob("metrics.csv"))) == 1


def test_processes_that_share_a_network_learn_the_same(train: Train, folder: Path, tmp_path: Path) -> None:
    """A label code is fitted once; the run goes on in one process, and shared out again."""
    words = (
        "data=folder", f"data.root={folder}", "model=dupsampling", "backbone.pretrained=false", "upsampler.width=16",
        "model.head.aspp_channels=16", "task.checkpoint_activations=true",
    )  # fmt: skip
    train("one", *words, "trainer=cpu")
    shared = (*words, "trainer=fsdp", *CPU, "trainer.devices=2")
    train("shared", *shared, stop=4, status=143)
    assert list(files_of(tmp_path / "shared" / "label_codes")) == list(files_of(tmp_path / "one" / "label_codes")) != []
    (run,) = (path.parent for path in (tmp_path / "shared").rglob("metrics.csv"))
    train("shared", f"ckpt_path={run}", "trainer=cpu", "trainer.devices=1", stop=7, status=143)
    train("shared", f"ckpt_path={run}", *shared)
    require_equal(tmp_path / "shared", tmp_path / "one")


def test_a_moving_average_is_not_shared_out(train: Train) -> None:
    said = train("refused", "callbacks=ema", "trainer=fsdp", *CPU, "trainer.devices=2", status=2)
    assert "error: a moving average keeps a whole copy of the weights, which trainer=fsdp shares out" in said
    assert "Traceback" not in said
