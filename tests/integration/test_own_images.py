"""From a folder or a zip to masks of new images, by the commands."""

from __future__ import annotations

import json
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

pytestmark = pytest.mark.integration

Command = Callable[..., subprocess.CompletedProcess[str]]
SMALL = (
    "backbone=timm", "backbone.name=test_resnet", "backbone.pretrained=false", "model.head.aspp_channels=8",
    "model.head.decoder_channels=8", "data.num_workers=0", "data.batch_size=2", "augment.crop_size=33", "trainer=cpu",
    "trainer.max_steps=2", "validate_every=2", "logger=csv", "callbacks=minimal",
)  # fmt: skip
COLORS = {"nothing": "#000000", "cup": "#c81e1e", "plate": "#1e1ec8"}


@pytest.fixture
def run(command: Command, tmp_path: Path) -> Command:
    """A command whose results lie in ``tmp_path``."""

    def call(script: str, *words: str) -> subprocess.CompletedProcess[str]:
        return command(script, *words, f"paths.logs={tmp_path / 'logs'}", cwd=tmp_path)

    return call


@pytest.fixture
def undescribed(own_folder: Path) -> Path:
    (own_folder / "atrous.yaml").unlink()
    (own_folder / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nnothing:0,0,0::\ncup:200,30,30::\nplate:30,30,200::\n", encoding="utf-8"
    )
    return own_folder


def test_from_a_folder_to_masks_of_new_images(run: Command, undescribed: Path, tmp_path: Path) -> None:
    done = run("prepare.py", "task=describe", f"data.root='{undescribed}'")
    assert done.returncode == 0, done.stderr
    described = yaml.safe_load((undescribed / "atrous.yaml").read_text(encoding="utf-8"))
    assert described["classes"] == COLORS
    assert (described["images"], described["masks"]) == ("photos/{name}.jpg", "painted/{name}.png")
    assert "splits: train 5 (0.8 of the rest), val 1 (0.2 of the rest)" in done.stdout
    (result,) = (tmp_path / "logs" / "prepare" / "describe").iterdir()
    with Image.open(result / "figures" / "samples.png") as sheet:
        shown = np.asarray(sheet.convert("RGB")).reshape(-1, 3)
    for red, green, blue in ((200, 30, 30), (30, 30, 200)):  # in the legend
        assert (shown == (red, green, blue)).all(axis=1).sum() > 50
    assert json.loads((result / "describe.json").read_text(encoding="utf-8"))["lengths"] == {"train": 5, "val": 1}

    done = run("train.py", "data=folder", f"data.root='{undescribed}'", *SMALL)
    assert done.returncode == 0, done.stderr
    (trained,) = (path for path in (tmp_path / "logs" / "train").glob("*/*") if path.is_dir())
    assert run("evaluate.py", f"ckpt_path={trained}", "trainer=cpu").returncode == 0
    done = run("predict.py", f"ckpt_path={trained}", f"input='{undescribed / 'photos'}'", f"output={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    for index in range(6):
        with Image.open(tmp_path / "out" / f"{index}.png") as mask:
            assert mask.mode == "P"
            found = {tuple(color) for color in np.asarray(mask.convert("RGB")).reshape(-1, 3).tolist()}
        assert found <= {(0, 0, 0), (200, 30, 30), (30, 30, 200)}, "the colors of the user's masks"


def test_a_description_is_not_replaced_unasked(run: Command, own_folder: Path) -> None:
    before = (own_folder / "atrous.yaml").read_text(encoding="utf-8")
    done = run("prepare.py", "task=describe", f"data.root='{own_folder}'")
    assert done.returncode == 2
    assert "atrous.yaml is there already" in done.stderr
    assert (own_folder / "atrous.yaml").read_text(encoding="utf-8") == before
    assert run("prepare.py", "task=describe", f"data.root='{own_folder}'", "describe.overwrite=true").returncode == 0
    assert (own_folder / "atrous.yaml").read_text(encoding="utf-8") != before


def test_a_zip_is_unpacked_beside_itself(run: Command, undescribed: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "given.zip", "w") as packed:
        for path in undescribed.rglob("*"):
            packed.write(path, Path("inside") / path.relative_to(undescribed))
    done = run("prepare.py", "task=describe", f"data.root={tmp_path / 'given.zip'}")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "given" / "inside"
    assert f"data.root={folder}" in done.stdout
    assert yaml.safe_load((folder / "atrous.yaml").read_text(encoding="utf-8"))["classes"] == COLORS


def test_a_zip_that_leaves_its_folder(run: Command, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "given.zip", "w") as packed:
        packed.writestr("../outside.png", b"x")
    done = run("prepare.py", "task=describe", f"data.root={tmp_path / 'given.zip'}")
    assert done.returncode == 2
    assert "lies outside of the folder" in done.stderr
    assert not (tmp_path / "outside.png").exists()


def test_files_that_are_wrong_are_listed_and_the_others_described(run: Command, undescribed: Path) -> None:
    mask = undescribed / "painted" / "3.png"
    mask.write_bytes(mask.read_bytes()[:60])
    (undescribed / "painted" / "4.png").unlink()
    done = run("prepare.py", "task=describe", f"data.root='{undescribed}'")
    assert done.returncode == 1
    assert "3.png: mask cannot be read" in done.stdout
    assert "1 of 6 images have no mask and are left out (unlabeled: skip)" in done.stdout
    assert yaml.safe_load((undescribed / "atrous.yaml").read_text(encoding="utf-8"))["unlabeled"] == "skip"


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda folder: "nowhere", "there is no folder or archive"),
        (lambda folder: (folder / "empty").mkdir() or "empty", "there is no picture in this folder"),
        (lambda folder: (folder / "a.txt").write_text("x") and "a.txt", "neither a folder nor a zip or tar archive"),
    ],
)
def test_nothing_to_describe(run: Command, tmp_path: Path, make: Callable[[Path], str], sentence: str) -> None:
    done = run("prepare.py", "task=describe", f"data.root={make(tmp_path)}")
    assert done.returncode == 2
    assert sentence in done.stderr
    assert done.stderr.strip().count("\n") == 0


def test_the_folder_has_to_be_named_and_described(run: Command, undescribed: Path) -> None:
    assert "data.root is missing" in run("prepare.py", "task=describe").stderr
    done = run("train.py", "data=folder", f"data.root='{undescribed}'", *SMALL)
    assert done.returncode == 2
    assert f"""task=describe "data.root='{undescribed}'"`""" in done.stderr, "a path with a space, for shell and Hydra"
