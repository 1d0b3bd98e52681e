"""Cityscapes' own folders and label ids, on generated files."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atrous.data.sets.cityscapes import CITYSCAPES, Cityscapes
from atrous.errors import AtrousError

TRAIN_ID = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13, 27: 14,
            28: 15, 31: 16, 32: 17, 33: 18}  # fmt: skip
"""The authors' table (cityscapesScripts, labels.py)."""


@pytest.mark.parametrize(("split", "length"), [("train", 2), ("val", 1), ("trainval", 3)])
def test_frames_of_all_cities(cityscapes_folder: Path, split: str, length: int) -> None:
    data = Cityscapes(split, root=cityscapes_folder)
    assert len(data) == length
    assert all(data[index].image.shape == (32, 64, 3) for index in range(length))


@pytest.mark.parametrize(
    ("split", "fine", "coarse"), [("train_extra", 0, 2), ("train_coarse", 0, 2), ("trainval_extra", 3, 2)]
)
def test_coarse_annotations(cityscapes_folder: Path, split: str, fine: int, coarse: int) -> None:
    for part, city in (("train_extra", "augsburg"), ("train", "aachen")):
        for number in range(2):
            name = f"{city}_{number:06d}_000019"
            (cityscapes_folder / "gtCoarse" / part / city).mkdir(parents=True, exist_ok=True)
            mask = np.full((32, 64), 7 + number, dtype=np.uint8)
            Image.fromarray(mask).save(cityscapes_folder / f"gtCoarse/{part}/{city}/{name}_gtCoarse_labelIds.png")
    for image in sorted((cityscapes_folder / "leftImg8bit" / "train" / "aachen").iterdir()):
        copy = cityscapes_folder / "leftImg8bit" / "train_extra" / "augsburg" / image.name.replace("aachen", "augsburg")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, copy)
    data = Cityscapes(split, root=cityscapes_folder)
    classes = [set(np.unique(data.mask(index))) for index in range(len(data))]
    assert classes == [{*range(19), 255}] * fine + [{0}, {1}][:coarse]


def test_label_ids_become_train_ids_and_the_rest_void(cityscapes_folder: Path) -> None:
    mask = Cityscapes("val", root=cityscapes_folder.parent)[0].mask
    raw = np.arange(32 * 64).reshape(32, 64) // 60 % 34
    for label in range(34):
        assert set(np.unique(mask[raw == label])) == {TRAIN_ID.get(label, 255)}


def test_predictions_go_back_to_label_ids() -> None:
    """What the test server wants."""
    assert CITYSCAPES.decode(np.arange(19)).tolist() == list(TRAIN_ID)


def test_class_names() -> None:
    assert CITYSCAPES.classes[0] == "road"
    assert CITYSCAPES.classes[18] == "bicycle"
    assert len(set(CITYSCAPES.palette)) == 19


def test_mistakes_are_explained(cityscapes_folder: Path) -> None:
    with pytest.raises(
        AtrousError, match=r"unknown split 'fine'; choose one of train, val, trainval, test, train_extra"
    ):
        Cityscapes("fine", root=cityscapes_folder)
    with pytest.raises(AtrousError, match=r"no Cityscapes in .*expected leftImg8bit and gtFine"):
        Cityscapes("val", root=cityscapes_folder / "gtFine")
    next((cityscapes_folder / "gtFine" / "val").rglob("*.png")).unlink()
    with pytest.raises(AtrousError, match=r"lindau_000000_000019_gtFine_labelIds.png: mask file .* is missing"):
        Cityscapes("val", root=cityscapes_folder)
    shutil.rmtree(cityscapes_folder / "leftImg8bit" / "val")
    with pytest.raises(AtrousError, match=r"no frame in .*unpack leftImg8bit_trainvaltest\.zip in"):
        Cityscapes("val", root=cityscapes_folder)
    with pytest.raises(
        AtrousError, match=r"expected leftImg8bit and gtCoarse .*leftImg8bit_trainextra\.zip and gtCoarse"
    ):
        Cityscapes("train_extra", root=cityscapes_folder)
    (cityscapes_folder / "gtCoarse").mkdir()
    with pytest.raises(AtrousError, match=r"no frame in .*unpack leftImg8bit_trainextra\.zip in"):
        Cityscapes("train_extra", root=cityscapes_folder)


def test_the_empty_masks_of_test_are_not_read(cityscapes_folder: Path) -> None:
    for folder in ("leftImg8bit", "gtFine"):
        (cityscapes_folder / folder / "val").rename(cityscapes_folder / folder / "test")
    dataset = Cityscapes("test", root=cityscapes_folder)
    assert not dataset.labeled
    assert dataset.names == ["lindau_000000_000019"]
    assert (dataset[0].mask == 255).all()
    assert dataset[0].mask.shape == dataset[0].image.shape[:2] == (32, 64)


def test_a_folder_with_half_of_the_data_set_is_not_it(cityscapes_folder: Path, tmp_path: Path) -> None:
    """Frames were unpacked where the search looks first, the labels elsewhere with the frames."""
    (cityscapes_folder / "cityscapes" / "leftImg8bit").mkdir(parents=True)
    assert len(Cityscapes("val", root=cityscapes_folder)) == 1
    (tmp_path / "half" / "gtFine").mkdir(parents=True)
    with pytest.raises(AtrousError, match=r"no Cityscapes in .*half; expected leftImg8bit and gtFine there or in city"):
        Cityscapes("val", root=tmp_path / "half")
