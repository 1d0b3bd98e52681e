"""A test writes the masks of its split as the server takes them."""

from __future__ import annotations

import tarfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from PIL import Image
from torch import Tensor

from atrous.callbacks import Submission
from atrous.data import LabelSpace, SegmentationDataModule, to_sample
from atrous.data.sets import VOC2012, CamVid, Cityscapes
from atrous.data.sets.voc import VOC_2012
from atrous.errors import AtrousError
from atrous.metrics import Protocol


class ByBrightness(LightningModule):
    """Predicts a class from the red of a pixel."""

    label_space: LabelSpace = VOC_2012

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        return {"prediction": batch["image"][:, 0] % 21}

    def protocol(self, stage: str, *, checkpoint: str | None = None) -> Protocol:
        return Protocol("voc", stage, 16, flip=True)


def run(data: SegmentationDataModule, callback: Submission) -> None:
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        callbacks=[callback],
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    trainer.test(ByBrightness(), datamodule=data, verbose=False)


def data_module(dataset: Any, folder: Path, **options: Any) -> SegmentationDataModule:
    unchanged: Any = to_sample
    return SegmentationDataModule(dataset=partial(dataset, root=folder), augment=unchanged, num_workers=0, **options)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_masks_are_what_was_predicted(
    voc_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], batch_size: int
) -> None:
    """The first and the last image of the list have one size and share a batch; the archive keeps the list's order."""
    names = ["2009_000004", "2008_000003", "2007_000001"]
    (voc_folder / "ImageSets" / "Segmentation" / "test.txt").write_text("".join(f"{name}\n" for name in names))
    other = voc_folder / "JPEGImages" / "2008_000003.jpg"
    with Image.open(other) as picture:
        picture.resize((20, 28)).save(other)
    callback = Submission(tmp_path / "run")
    run(data_module(VOC2012, voc_folder, test_split="test", eval_batch_size=batch_size), callback)
    assert callback.archive == tmp_path / "run" / "submission" / "voc_test.tar.gz"
    assert "submission of 3 masks, checked: " in capsys.readouterr().out
    images = VOC2012("test", root=voc_folder)
    with tarfile.open(callback.archive) as archive:
        assert archive.getnames() == [f"results/VOC2012/Segmentation/comp6_test_cls/{name}.png" for name in names]
        for index, path in enumerate(archive.getnames()):
            file = archive.extractfile(path)
            assert file is not None
            with Image.open(file) as mask:
                assert np.array_equal(np.asarray(mask), images[index].image[..., 0] % 21)
                assert "OS 16 · scale 1 · flip" in mask.text["protocol"]


def test_val_has_a_folder_of_its_own(voc_folder: Path, tmp_path: Path) -> None:
    callback = Submission(tmp_path)
    run(data_module(VOC2012, voc_folder, test_split="val"), callback)
    assert callback.archive is not None
    with tarfile.open(callback.archive) as archive:
        assert archive.getnames() == ["results/VOC2012/Segmentation/comp6_val_cls/2008_000003.png"]


def test_a_prediction_that_the_server_would_not_take_is_told(
    voc_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ignored(self: Any, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        return {"prediction": torch.full_like(batch["mask"], 255)}

    monkeypatch.setattr(ByBrightness, "test_step", ignored)
    with pytest.raises(AtrousError, match=r"2008_000003\.png has the ids 255, which are no classes"):
        run(data_module(VOC2012, voc_folder, test_split="val"), Submission(tmp_path))


def test_what_no_server_takes_is_refused_before_anything_is_computed(
    camvid_folder: Path, cityscapes_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(AtrousError, match="no test server is known for the classes of camvid"):
        run(data_module(CamVid, camvid_folder, test_split="val"), Submission(tmp_path))
    with pytest.raises(AtrousError, match="takes masks of 1024×2048 pixels, but lindau_000000_000019 has 32×64"):
        run(data_module(Cityscapes, cityscapes_folder, test_split="val"), Submission(tmp_path))
    assert not (tmp_path / "submission").exists()


def test_shrunk_images_are_refused(voc_folder: Path, tmp_path: Path) -> None:
    data = data_module(VOC2012, voc_folder, test_split="val", shrink=2)
    with pytest.raises(AtrousError, match=r"not of 1/2: set data\.shrink=1"):
        run(data, Submission(tmp_path / "run"))
