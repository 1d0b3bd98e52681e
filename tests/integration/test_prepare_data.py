"""From archives to a training, by the commands."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig
from PIL import Image
from scipy.io import savemat

from atrous.commands.prepare import command as prepare
from atrous.commands.train import command as train
from atrous.data.preparation import sources
from atrous.data.sets import files
from atrous.errors import AtrousError

pytestmark = pytest.mark.integration

Compose = Callable[..., DictConfig]
TRAINING = (
    "backbone=timm", "backbone.name=resnet18", "backbone.pretrained=false", "data.num_workers=0", "data.batch_size=2",
    "augment.crop_size=33", "trainer=cpu", "trainer.max_steps=2", "validate_every=2", "logger=csv",
    "callbacks=minimal",
)  # fmt: skip


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Address and folder of a server."""
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", folder
        server.shutdown()


@pytest.fixture
def archives(voc_folder: Path, served: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """VOC and SBD as their owners serve them; the folder in which they are to be prepared."""
    address, folder = served
    shutil.rmtree(voc_folder / "SegmentationClassAug")
    for name in ("trainaug", "trainval_aug"):
        (voc_folder / "ImageSets/Segmentation" / f"{name}.txt").unlink()
    with tarfile.open(folder / "voc.tar", "w") as packed:
        packed.add(voc_folder.parent, "VOCdevkit")
    shutil.rmtree(voc_folder.parent)
    sbd = tmp_path / "dataset"
    (sbd / "cls").mkdir(parents=True)
    write_picture(sbd / "img" / "2009_000004.jpg")
    (sbd / "train.txt").write_text("2009_000004\n")
    (sbd / "val.txt").write_text("2007_000001\n")
    ids = np.zeros((24, 32), dtype=np.uint8)
    ids[4:] = 7
    savemat(sbd / "cls" / "2009_000004.mat", {"GTcls": {"Segmentation": ids}})
    with tarfile.open(folder / "sbd.tgz", "w:gz") as packed:
        packed.add(sbd, "benchmark_RELEASE/dataset")
    for name, file in (("VOC_2012_ARCHIVES", "voc.tar"), ("SBD_ARCHIVES", "sbd.tgz")):
        (archive,) = getattr(sources, name)
        md5 = hashlib.md5((folder / file).read_bytes()).hexdigest()
        monkeypatch.setattr(sources, name, (replace(archive, url=f"{address}/{file}", md5=md5),))
    return tmp_path / "prepared"


def write_picture(path: Path) -> None:
    path.parent.mkdir(parents=True)
    Image.fromarray(np.zeros((24, 32, 3), dtype=np.uint8)).save(path)


def result(config: DictConfig, task: str) -> Any:
    return json.loads((Path(config.paths.run) / f"{task}.json").read_text(encoding="utf-8"))


def test_voc_and_sbd_from_the_network_to_a_training(
    archives: Path, composed: Compose, capsys: pytest.CaptureFixture[str]
) -> None:
    root = (f"data.root={archives}", "data=voc_aug")
    with pytest.raises(AtrousError, match=r"2 files are to be fetched by hand and put into .*downloads: VOCtrainval"):
        prepare.prepare(composed("prepare", "task=data", *root, "preparation.fetch=false"))
    for run in ("first", "second"):
        config = composed("prepare", "task=data", *root, "preparation.workers=1", run=run)
        prepare.prepare(config)
        said = capsys.readouterr().out
        assert ("VOCtrainval_11-May-2012.tar is unpacked" in said) == (run == "first"), "nothing is done twice"
        assert "trainaug has 3 of the 10,582 published images" in said.replace("voc ", "")
        assert "no problem in trainaug 3, val 1" in said
        found = result(config, "data")
    assert found["classes"]["car"]["images"] == pytest.approx(1 / 3)
    objects = 20 * 32, 2 * 8 * 10  # a car in SBD's mask, a person in each of VOC's
    pixels = 3 * 24 * 32 - 2 * (12 * 14 - 8 * 10)  # without the borders
    assert found["classes"]["car"]["pixels"] == pytest.approx(objects[0] / pixels)
    assert found["classes"]["person"]["pixels"] == pytest.approx(objects[1] / pixels)
    task = train.train(composed("train", *root, *TRAINING, run="trained"))
    assert "voc val, " not in str(task.protocol("val"))
    assert str(task.protocol("val")).startswith("voc val · 1 of 1,449 images")


def test_problems_end_with_status_1(camvid_folder: Path, composed: Compose, capsys: pytest.CaptureFixture[str]) -> None:
    config = composed("prepare", "task=verify", "data=camvid", f"data.root={camvid_folder}", "verify.workers=0")
    prepare.prepare(config)
    assert result(config, "verify")["problems"] == []
    for name in ("train_000", "train_001"):
        (camvid_folder / "masks" / "train" / f"{name}.png").write_bytes(b"")
    for task in ("verify", "data"):
        config = composed("prepare", f"task={task}", "data=camvid", f"data.root={camvid_folder}", run=task)
        with pytest.raises(SystemExit) as end:
            prepare.prepare(config)
        assert end.value.code == 1
        assert len(result(config, task)["problems"]) == 2
        said = capsys.readouterr().out
        assert "train_000.png: mask cannot be read: not a picture" in said
        assert "2 problems in train 3, val 2" in said
    config = composed(
        "prepare", "task=verify", "data=camvid", f"data.root={camvid_folder}", "verify.splits=[val]", run="val"
    )
    prepare.prepare(config)
    assert result(config, "verify")["lengths"] == {"val": 2}


def test_what_is_fetched_by_hand_is_unpacked(cityscapes_folder: Path, composed: Compose, tmp_path: Path) -> None:
    root = tmp_path / "prepared"
    options = ("task=data", "data=cityscapes", f"data.root={root}", "preparation.workers=0")
    with pytest.raises(AtrousError, match=r"leftImg8bit_trainvaltest\.zip \(www\.cityscapes-dataset\.com"):
        prepare.prepare(composed("prepare", *options))
    (root / "downloads").mkdir(parents=True)
    for name, part in (("leftImg8bit_trainvaltest", "leftImg8bit"), ("gtFine_trainvaltest", "gtFine")):
        with zipfile.ZipFile(root / "downloads" / f"{name}.zip", "w") as packed:
            for file in (cityscapes_folder / part).rglob("*.png"):
                packed.write(file, file.relative_to(cityscapes_folder))
    config = composed("prepare", *options, run="second")
    prepare.prepare(config)
    assert result(config, "data")["lengths"] == {"train": 2, "val": 1}


def test_the_cache_is_filled_and_trainings_use_it(
    camvid_folder: Path, composed: Compose, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("data=camvid", f"data.root={camvid_folder}", "data.cache=disk")
    prepare.prepare(composed("prepare", "task=data", *options, "preparation.workers=2"))
    assert "3 images of train are decoded in" in capsys.readouterr().out
    monkeypatch.setattr(files, "read_image", lambda path: pytest.fail(f"{path} was decoded again"))
    train.train(composed("train", *options, *TRAINING, run="trained"))
