"""PASCAL-Context's label maps of 459 classes, on generated MATLAB files."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from atrous.data.label_space import LabelSpace
from atrous.data.sets.pascal_context import PASCAL_CONTEXT, PASCAL_CONTEXT_59, PascalContext
from atrous.errors import AtrousError

SORTED_IDS = [2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98, 104, 105, 113, 115, 144,
              158, 159, 162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308, 324, 326, 347,
              349, 354, 355, 360, 366, 368, 397, 415, 416, 420, 424, 427, 440, 445, 454, 458]  # fmt: skip
"""The ids of mmsegmentation's converter, sorted as it sorts them."""


def raw_map(folder: Path, name: str) -> np.ndarray:
    ids: np.ndarray = loadmat(folder / "trainval" / f"{name}.mat")["LabelMap"]
    return ids


@pytest.mark.parametrize(("split", "length"), [("train", 2), ("val", 1), ("trainval", 3)])
def test_splits_follow_the_lists_of_voc(context_folder: Path, split: str, length: int) -> None:
    data = PascalContext(split, root=context_folder)
    assert len(data) == length
    assert [data[index].name for index in range(length)] == data.names
    assert all(data[index].image.shape == (24, 32, 3) for index in range(length))


def test_names_and_ids_belong_together() -> None:
    """The authors' 459 names stand in alphabetical order, so that ids in the order of the names are ascending."""
    ids = dict(zip(PASCAL_CONTEXT_59.classes, PASCAL_CONTEXT_59.raw_ids, strict=True))
    assert [ids[name] for name in sorted(ids)] == SORTED_IDS
    assert PASCAL_CONTEXT_59.classes[:20] == (
        "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "table", "dog", "horse",
        "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
    )  # fmt: skip
    assert PASCAL_CONTEXT.classes == ("background", *PASCAL_CONTEXT_59.classes)
    assert len(set(PASCAL_CONTEXT.palette)) == 60


@pytest.mark.parametrize("background", [True, False])
def test_every_id_becomes_its_class_and_the_rest_background_or_void(context_folder: Path, background: bool) -> None:
    data = PascalContext("val", root=context_folder, background=background)
    mask, raw = data[0].mask, raw_map(context_folder, data.names[0])
    assert mask.dtype == np.uint8
    assert set(np.unique(raw)) == set(range(460))
    for label in range(460):
        found = {int(value) for value in np.unique(mask[raw == label])}
        if label in SORTED_IDS:
            (train_id,) = found
            assert data.label_space.raw_ids[train_id] == label
        else:
            assert found == {0 if background else 255}
    assert data.label_space.num_classes == 59 + background


@pytest.mark.parametrize("space", [PASCAL_CONTEXT, PASCAL_CONTEXT_59])
def test_predictions_go_back_to_the_authors_ids(space: LabelSpace) -> None:
    decoded = space.decode(np.arange(space.num_classes))
    assert decoded.dtype == np.uint16
    assert sorted(set(decoded.tolist()) - {0}) == SORTED_IDS


def test_a_mask_needs_no_image(context_folder: Path) -> None:
    data = PascalContext("val", root=context_folder)
    before = data.mask(0)
    data.images[0].unlink()
    assert np.array_equal(data.mask(0), before)


@pytest.mark.parametrize("place", ["", "VOCdevkit", "VOCdevkit/VOC2010"])
def test_label_maps_lie_beside_or_in_the_devkit(context_folder: Path, place: str) -> None:
    if place:
        shutil.move(context_folder / "trainval", context_folder / place / "trainval")
    for root in (context_folder, context_folder / "VOCdevkit", context_folder / "VOCdevkit" / "VOC2010"):
        assert PascalContext("val", root=root).names == ["2009_000003"]


def test_mistakes_are_explained(context_folder: Path) -> None:
    with pytest.raises(AtrousError, match="pascal_context: unknown split 'test'; choose one of train, val, trainval"):
        PascalContext("test", root=context_folder)
    with pytest.raises(AtrousError, match=r"no VOC 2010 in .*unpack VOCtrainval_03-May-2010\.tar there"):
        PascalContext("val", root=context_folder / "trainval")
    path = context_folder / "trainval" / "2009_000003.mat"
    data = PascalContext("val", root=context_folder)
    savemat(path, {"LabelMap": np.full((24, 32), 460, dtype=np.uint16)})
    with pytest.raises(AtrousError, match=r"2009_000003.mat: label ids 460 are outside .*'pascal_context'"):
        data[0]
    savemat(path, {"LabelMap": np.zeros((24, 31), dtype=np.uint16)})
    with pytest.raises(AtrousError, match=r"32x24 pixels but its mask .*2009_000003.mat is 31x24"):
        data[0]
    savemat(path, {"LabelMap": np.zeros((24, 32))})
    with pytest.raises(AtrousError, match=r"2009_000003.mat: LabelMap must be a map of integer ids, but it is float64"):
        data[0]
    savemat(path, {"anno": 1})
    with pytest.raises(AtrousError, match=r"2009_000003.mat: the file holds no variable LabelMap"):
        data[0]
    for damage in (b"", b"no MATLAB file", (context_folder / "trainval" / "2008_000001.mat").read_bytes()[:400]):
        path.write_bytes(damage)
        with pytest.raises(AtrousError, match=r"2009_000003.mat: annotation cannot be read"):
            data[0]
    path.unlink()
    with pytest.raises(AtrousError, match=r"2009_000003.mat: mask file of pascal_context val is missing"):
        PascalContext("val", root=context_folder)
    lists = context_folder / "VOCdevkit" / "VOC2010" / "ImageSets" / "Main"
    (lists / "val.txt").write_text("2009_000003", encoding="utf-16")
    with pytest.raises(AtrousError, match=r"pascal_context: the list .*val\.txt is not text in UTF-8"):
        PascalContext("val", root=context_folder)
    (lists / "val.txt").write_text("")
    with pytest.raises(AtrousError, match=r"pascal_context: the list .*val\.txt is empty"):
        PascalContext("val", root=context_folder)
    (lists / "val.txt").unlink()
    with pytest.raises(AtrousError, match=r"pascal_context: the list .*val\.txt does not exist"):
        PascalContext("val", root=context_folder)
    shutil.rmtree(context_folder / "trainval")
    with pytest.raises(AtrousError, match=r"pascal_context: no folder trainval in .*unpack PASCAL-Context's"):
        PascalContext("val", root=context_folder)
