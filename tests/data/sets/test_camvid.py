from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atrous.data.sets.camvid import CAMVID, CamVid
from atrous.errors import AtrousError


def to_tutorial_layout(folder: Path) -> Path:
    """Move the files to where the SegNet tutorial has them, images as PNG."""
    for split in ("train", "val"):
        (folder / split).mkdir()
        for path in (folder / "images" / split).iterdir():
            with Image.open(path) as picture:
                picture.save(folder / split / f"{path.stem}.png")
        (folder / "masks" / split).rename(folder / f"{split}annot")
    shutil.rmtree(folder / "images")
    shutil.rmtree(folder / "masks")
    return folder


@pytest.mark.parametrize(("split", "length"), [("train", 3), ("val", 2), ("trainval", 5)])
def test_both_layouts_hold_the_same_samples(camvid_folder: Path, split: str, length: int) -> None:
    before = CamVid(split, root=camvid_folder)
    samples = [before[index] for index in range(len(before))]
    after = CamVid(split, root=to_tutorial_layout(camvid_folder))
    assert len(before) == len(after) == length
    for index, sample in enumerate(samples):
        assert after[index].name == sample.name
        assert np.array_equal(after[index].image, sample.image)
        assert np.array_equal(after[index].mask, sample.mask)


def test_void_becomes_ignore_and_classes_keep_their_ids(camvid_folder: Path) -> None:
    mask = CamVid("train", root=camvid_folder)[0].mask
    raw = np.arange(36 * 48).reshape(36, 48) // 150
    assert (mask[raw == 11] == 255).all()
    assert np.array_equal(mask[raw < 11], raw[raw < 11])


def test_the_root_may_be_the_folder_above(camvid_folder: Path) -> None:
    assert len(CamVid("val", root=camvid_folder.parent)) == 2


def test_label_space() -> None:
    assert CAMVID.num_classes == 11
    assert CAMVID.classes[10] == "Bicyclist"
    assert len(set(CAMVID.palette)) == 11


def test_unknown_split_lists_the_valid_ones(camvid_folder: Path) -> None:
    with pytest.raises(AtrousError, match="unknown split 'trainaug'; choose one of train, val, test, trainval"):
        CamVid("trainaug", root=camvid_folder)


def test_absent_split_says_what_is_expected(camvid_folder: Path) -> None:
    with pytest.raises(AtrousError, match=r"no split 'test' in .*; expected images/test and masks/test, or test and"):
        CamVid("test", root=camvid_folder)


def test_folder_without_images_is_named(camvid_folder: Path) -> None:
    for path in (camvid_folder / "images" / "val").iterdir():
        path.unlink()
    with pytest.raises(AtrousError, match=r"no \.jpg or \.png image in .*val"):
        CamVid("val", root=camvid_folder)


def test_missing_mask_is_named(camvid_folder: Path) -> None:
    (camvid_folder / "masks" / "val" / "val_001.png").unlink()
    with pytest.raises(AtrousError, match=r"val_001\.png: mask file of camvid val is missing"):
        CamVid("val", root=camvid_folder)


def test_ids_outside_the_label_space_are_named(camvid_folder: Path) -> None:
    Image.fromarray(np.full((36, 48), 12, dtype=np.uint8)).save(camvid_folder / "masks" / "val" / "val_000.png")
    with pytest.raises(AtrousError, match=r"val_000\.png: label ids 12 are outside the label space 'camvid'.*void 11"):
        CamVid("val", root=camvid_folder)[0]
