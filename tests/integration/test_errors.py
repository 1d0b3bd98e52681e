"""A mistake in the input ends early, in one sentence that says what to do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from omegaconf import DictConfig
from PIL import Image

from atrous.commands.train import command as entry_point
from atrous.errors import AtrousError

pytestmark = pytest.mark.integration

Compose = Callable[..., DictConfig]
QUICK = ("trainer.max_steps=2", "validate_every=2", "trainer.accelerator=cpu", "data.num_workers=0", "logger=none")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def mistake(composed: Compose, *overrides: str) -> str:
    with pytest.raises(AtrousError) as caught:
        entry_point.train(composed("train", *QUICK, *overrides))
    return str(caught.value)


def test_missing_data_set(composed: Compose, tmp_path: Path) -> None:
    said = mistake(composed, "data=voc", f"data.root={tmp_path / 'nowhere'}", "backbone.pretrained=false")
    assert str(tmp_path / "nowhere") in said


def test_half_a_data_set(composed: Compose, voc_folder: Path) -> None:
    (voc_folder / "SegmentationClassAug" / "2009_000004.png").unlink()
    said = mistake(composed, "data=voc", f"data.root={voc_folder}", "backbone.pretrained=false")
    assert "2009_000004" in said


def test_image_and_mask_of_different_size(composed: Compose, voc_folder: Path) -> None:
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(voc_folder / "SegmentationClass" / "2008_000003.png")
    said = mistake(composed, "data=voc", f"data.root={voc_folder}", "backbone.pretrained=false")
    assert "2008_000003" in said
    assert "9" in said


def test_label_ids_outside_the_label_space(composed: Compose, voc_folder: Path) -> None:
    Image.fromarray(np.full((24, 32), 77, np.uint8)).save(voc_folder / "SegmentationClass" / "2008_000003.png")
    said = mistake(composed, "data=voc", f"data.root={voc_folder}", "backbone.pretrained=false")
    assert "2008_000003.png" in said
    assert "77" in said


def test_unreadable_image(composed: Compose, voc_folder: Path) -> None:
    (voc_folder / "JPEGImages" / "2008_000003.jpg").write_bytes(b"no picture")
    path = voc_folder / "JPEGImages" / "2008_000003.jpg"
    for workers in (0, 1):
        root = ("data=voc", f"data.root={voc_folder}", "backbone.pretrained=false", f"data.num_workers={workers}")
        assert mistake(composed, *root).startswith(f"{path}: image cannot be read: not a picture")


def test_weights_without_a_network(composed: Compose, voc_folder: Path) -> None:
    said = mistake(composed, "data=voc", f"data.root={voc_folder}", "backbone=resnet50")
    assert "backbone.pretrained=false" in said
    assert "resnet50" in said


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["backbone.output_stride=12"], ["output stride 12", "8, 16, 32"]),
        (["backbone=timm", "backbone.name=resnet5O"], ["resnet5O", "resnet50"]),
        (["backbone=timm", "backbone.name=vit_tiny_patch16_224"], ["vit_tiny_patch16_224", "resnet50"]),
        (["model.head.low_level_stride=3"], ["stride 3", "2, 4, 8"]),
        (["loss.class_weights=[1, 2]"], ["2 values for 8 classes"]),
        (["data.batch_size=1"], ["batch of one", "batch size of two"]),
        (["ckpt_path=nothing.ckpt"], ["nothing.ckpt"]),
        (["init_from=nothing.ckpt"], ["nothing.ckpt"]),
        (["data.train_split=trian"], ["trian", "train, val, test"]),
        (["trainer.max_steps=3"], ["max_steps=3", "validate_every=2"]),
        (["trainer.precision=nine"], ["nine"]),
        (["+model.head.aspp_chanels=3"], ["aspp_chanels"]),
    ],
)
def test_values_that_make_no_sense(overrides: list[str], words: list[str], composed: Compose) -> None:
    said = mistake(composed, "augment.crop_size=65", *overrides)
    assert "\n" not in said
    for word in words:
        assert word in said, said


@pytest.mark.slow
def test_the_command_line_prints_the_sentence_and_exits_with_2(repository: Path, tmp_path: Path) -> None:
    script = [sys.executable, str(repository / "src" / "train.py")]
    done = subprocess.run(
        [*script, "ckpt_path=last", f"paths.logs={tmp_path}"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ckpt_path=last found no run")


def test_the_command_line_lists_the_choices(
    command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = command("train.py", "model=deeplabv9", cwd=tmp_path)
    assert done.returncode != 0
    assert "deeplabv3plus" in done.stderr, "Hydra lists what there is"
