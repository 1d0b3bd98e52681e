from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from atrous.data import SegmentationDataModule
from atrous.data.dataset import to_sample
from atrous.data.label_space import voc_color_map
from atrous.data.sets.voc import VOC2012, VOC_2012
from atrous.errors import AtrousError


@pytest.mark.parametrize(
    ("split", "length"), [("train", 2), ("val", 1), ("trainval", 3), ("trainaug", 3), ("trainval_aug", 4)]
)
def test_splits_follow_their_lists(voc_folder: Path, split: str, length: int) -> None:
    data = VOC2012(split, root=voc_folder)
    listed = (voc_folder / "ImageSets" / "Segmentation" / f"{split}.txt").read_text().split()
    assert data.names == listed
    assert len(data) == length
    assert [data[index].name for index in range(len(data))] == listed


def test_border_stays_ignored_and_ids_are_read_from_the_palette_png(voc_folder: Path) -> None:
    for split in ("train", "val"):
        image, mask, _ = VOC2012(split, root=voc_folder)[0]
        assert image.shape == (24, 32, 3)
        assert image.dtype == mask.dtype == np.uint8
        assert mask[0, 0] == 0
        assert (mask[6:14, 8:18] == 15).all()
        assert (mask == 255).sum() == 12 * 14 - 8 * 10


def test_trainaug_reads_the_other_mask_folder_in_grayscale_too(voc_folder: Path) -> None:
    mask = VOC2012("trainaug", root=voc_folder)[0].mask
    assert sorted(np.unique(mask)) == [0, 15]


@pytest.mark.parametrize("levels", [0, 1, 2], ids=["VOC2012", "VOCdevkit", "parent"])
def test_the_root_may_be_any_of_three_folders(voc_folder: Path, levels: int) -> None:
    root = [voc_folder, *voc_folder.parents][levels]
    assert len(VOC2012("train", root=str(root))) == 2


def test_pixels_are_not_turned_by_an_orientation_tag(voc_folder: Path) -> None:
    path = voc_folder / "JPEGImages" / "2007_000001.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate by 90 degrees to look at it"
    with Image.open(path) as picture:
        pixels = np.asarray(picture)
        picture.save(path, exif=exif, quality=100, subsampling=0)
    image = VOC2012("train", root=voc_folder)[0].image
    assert image.shape == (24, 32, 3)
    assert np.abs(image.astype(int) - pixels).mean() < 3


def test_to_sample_keeps_every_value(voc_folder: Path) -> None:
    raw = VOC2012("val", root=voc_folder)[0]
    sample = to_sample(raw)
    assert sample["image"].dtype == sample["mask"].dtype == torch.uint8
    assert sample["image"].is_contiguous()
    assert np.array_equal(sample["image"].permute(1, 2, 0).numpy(), raw.image)
    assert np.array_equal(sample["mask"].numpy(), raw.mask)
    assert sample["size"] == (24, 32)
    assert sample["name"] == "2008_000003"


def test_colors_are_those_of_the_devkit() -> None:
    # devkit documentation, VOC2012 §"color map", typed from its table
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 7: (128, 128, 128), 8: (64, 0, 0)}
    known |= {15: (192, 128, 128), 16: (0, 64, 0), 20: (0, 64, 128), 255: (224, 224, 192)}
    colors = voc_color_map(256)
    assert {label: colors[label] for label in known} == known
    assert len(set(colors)) == 256
    assert VOC_2012.palette == colors[:21]
    assert VOC_2012.classes[15] == "person"


def test_lists_with_further_columns_or_paths_are_understood(voc_folder: Path) -> None:
    path = voc_folder / "ImageSets" / "Segmentation" / "train.txt"
    path.write_text("/JPEGImages/2007_000002.jpg /SegmentationClass/2007_000002.png\n\n2007_000001 1\n")
    assert VOC2012("train", root=voc_folder).names == ["2007_000002", "2007_000001"]


def test_unknown_split_lists_the_valid_ones(voc_folder: Path) -> None:
    with pytest.raises(AtrousError, match="unknown split 'all'; choose one of train, val, trainval, trainaug"):
        VOC2012("all", root=voc_folder)


def test_the_truth_of_test_is_nobodys(voc_folder: Path) -> None:
    (voc_folder / "ImageSets" / "Segmentation" / "test.txt").write_text("2009_000004\n2008_000003\n")
    dataset = VOC2012("test", root=voc_folder)
    assert not dataset.labeled
    assert VOC2012("val", root=voc_folder).labeled
    assert dataset.names == ["2009_000004", "2008_000003"]
    assert np.array_equal(dataset[1].image, VOC2012("val", root=voc_folder)[0].image)
    assert dataset[1].mask.shape == (24, 32)
    assert (dataset[1].mask == 255).all()
    unchanged: Any = to_sample
    data = SegmentationDataModule(dataset=partial(VOC2012, root=voc_folder), augment=unchanged, val_split="test")
    assert len(data.dataset("test")) == 2
    with pytest.raises(AtrousError, match=r"voc test has no labels: choose another data\.val_split"):
        data.val_dataloader()


def test_absent_data_set_says_where_and_what(tmp_path: Path) -> None:
    with pytest.raises(AtrousError, match=r"no VOC 2012 in .*nowhere; expected JPEGImages .* data\.root"):
        VOC2012("train", root=tmp_path / "nowhere")


def test_missing_list_is_named(voc_folder: Path) -> None:
    (voc_folder / "ImageSets" / "Segmentation" / "trainaug.txt").unlink()
    with pytest.raises(AtrousError, match=r"the list .*trainaug\.txt does not exist"):
        VOC2012("trainaug", root=voc_folder)


def test_empty_list_is_named(voc_folder: Path) -> None:
    (voc_folder / "ImageSets" / "Segmentation" / "val.txt").write_text("\n \n")
    with pytest.raises(AtrousError, match=r"the list .*val\.txt is empty"):
        VOC2012("val", root=voc_folder)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_lists_are_text_in_utf8_with_or_without_a_mark(voc_folder: Path, encoding: str) -> None:
    """Editors on Windows put a byte-order mark before the first name."""
    path = voc_folder / "ImageSets" / "Segmentation" / "val.txt"
    path.write_text("2008_000003\n" if encoding == "utf-8-sig" else "2008_000003é\n", encoding=encoding)
    if encoding == "utf-8-sig":
        assert VOC2012("val", root=voc_folder).names == ["2008_000003"]
    else:
        with pytest.raises(AtrousError, match=r"voc: the list .*val\.txt is not text in UTF-8 .*; save it as such"):
            VOC2012("val", root=voc_folder)


def test_missing_mask_folder_is_named(voc_folder: Path) -> None:
    shutil.rmtree(voc_folder / "SegmentationClassAug")
    assert len(VOC2012("train", root=voc_folder)) == 2
    with pytest.raises(AtrousError, match=r"split 'trainaug' needs the folder .*SegmentationClassAug.*SBD"):
        VOC2012("trainaug", root=voc_folder)


@pytest.mark.parametrize(
    ("file", "what"), [("JPEGImages/2007_000001.jpg", "image"), ("SegmentationClass/2007_000001.png", "mask")]
)
def test_missing_files_are_named_before_anything_is_read(voc_folder: Path, file: str, what: str) -> None:
    (voc_folder / file).unlink()
    with pytest.raises(AtrousError, match=rf"{Path(file).name}: {what} file of voc train is missing; complete"):
        VOC2012("train", root=voc_folder)


def test_a_missing_folder_counts_its_files(voc_folder: Path) -> None:
    for path in (voc_folder / "SegmentationClass").iterdir():
        path.unlink()
    with pytest.raises(AtrousError, match=r"2007_000001\.png: mask file .* missing \(and 2 more of 3\)"):
        VOC2012("trainval", root=voc_folder)


def test_sizes_that_differ_name_both_files_and_both_sizes(voc_folder: Path) -> None:
    path = voc_folder / "SegmentationClass" / "2007_000001.png"
    Image.fromarray(np.zeros((24, 31), dtype=np.uint8)).save(path)
    data = VOC2012("train", root=voc_folder)
    with pytest.raises(AtrousError, match=r"2007_000001\.jpg is 32x24 pixels but its mask .*2007_000001\.png is 31x24"):
        data[0]


def test_ids_outside_the_label_space_are_named(voc_folder: Path) -> None:
    ids = np.zeros((24, 32), dtype=np.uint8)
    ids[0, :3] = (21, 40, 255)
    Image.fromarray(ids).save(voc_folder / "SegmentationClass" / "2007_000001.png")
    with pytest.raises(AtrousError, match=r"2007_000001\.png: label ids 21, 40 are outside .*'voc' \(classes 0-20"):
        VOC2012("train", root=voc_folder)[0]


@pytest.mark.parametrize("content", ["text", "half"])
@pytest.mark.parametrize("file", ["JPEGImages/2007_000001.jpg", "SegmentationClass/2007_000001.png"])
def test_unreadable_files_are_named(voc_folder: Path, file: str, content: str) -> None:
    path = voc_folder / file
    whole = path.read_bytes()
    path.write_bytes(b"not a picture" if content == "text" else whole[: len(whole) // 2])
    with pytest.raises(AtrousError, match=rf"{path.name}: (image|mask) cannot be read"):
        VOC2012("train", root=voc_folder)[0]


def test_colored_masks_are_refused(voc_folder: Path) -> None:
    path = voc_folder / "SegmentationClass" / "2007_000001.png"
    with Image.open(path) as mask:
        mask.convert("RGB").save(path)
    with pytest.raises(AtrousError, match=r"2007_000001\.png: mask cannot be read: a mask must be a palette.*RGB"):
        VOC2012("train", root=voc_folder)[0]


def test_grayscale_photographs_become_rgb(voc_folder: Path) -> None:
    path = voc_folder / "JPEGImages" / "2007_000001.jpg"
    with Image.open(path) as picture:
        picture.convert("L").save(path)
    image = VOC2012("train", root=voc_folder)[0].image
    assert image.shape == (24, 32, 3)
    assert np.array_equal(image[..., 0], image[..., 2])
