from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atrous.data.description import picture_files
from atrous.data.preparation.describe.layout import find_layout
from atrous.data.preparation.describe.splits import find_splits
from atrous.errors import AtrousError


def photo(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(path)


def mask(path: Path, colors: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    ids = np.arange(480, dtype=np.uint8).reshape(20, 24) % 3
    Image.fromarray(np.stack([ids * 100] * 3, axis=2) if colors else ids).save(path)


LAYOUTS = {
    "two folders": ("images/{}.jpg", "masks/{}.png", "images/{name}.jpg", "masks/{name}.png"),
    "folders of splits inside": (
        "images/train/{}.jpg",
        "masks/train/{}.png",
        "images/{name}.jpg",
        "masks/{name}.png",
    ),
    "folders of splits outside": (
        "train/images/{}.png",
        "train/labels/{}.png",
        "{folder}/images/{name}.png",
        "{folder}/labels/{name}.png",
    ),
    "SegNet": ("train/{}.png", "trainannot/{}.png", "{name}.png", "{folder}annot/{name}.png"),
    "VOC": ("JPEGImages/{}.jpg", "SegmentationClass/{}.png", "JPEGImages/{name}.jpg", "SegmentationClass/{name}.png"),
    "one folder, an end": ("{}.jpg", "{}_mask.png", "{name}.jpg", "{name}_mask.png"),
    "one folder, two ends": ("all/{}_rgb.png", "all/{}_label.png", "all/{name}_rgb.png", "all/{name}_label.png"),
    "one folder, two suffixes": ("data/{}.jpg", "data/{}.png", "data/{name}.jpg", "data/{name}.png"),
    "Cityscapes": (
        "leftImg8bit/train/aachen/{}_leftImg8bit.png",
        "gtFine/train/aachen/{}_gtFine_labelIds.png",
        "leftImg8bit/{name}_leftImg8bit.png",
        "gtFine/{name}_gtFine_labelIds.png",
    ),
    "masks of colors": ("a/{}.png", "b/{}.png", "a/{name}.png", "b/{name}.png"),
    "an end in another folder": ("images/{}.jpg", "masks/{}_L.png", "images/{name}.jpg", "masks/{name}_L.png"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(tmp_path: Path, layout: str) -> None:
    image, truth, images, masks = LAYOUTS[layout]
    for index in range(4):
        split = "train" if index < 3 else "val"
        image_of, truth_of = (
            each.replace("train", split).replace("aachen", f"city{index}").format(f"street_{index:04d}")
            for each in (image, truth)
        )
        photo(tmp_path / image_of, index)
        mask(tmp_path / truth_of, colors=layout == "masks of colors")
    found = find_layout(tmp_path, picture_files(tmp_path))
    assert (found.images.text, found.masks.text) == (images, masks)
    assert len(found.names) == 4
    assert found.unlabeled == []


def test_other_pictures_are_not_taken_for_masks(tmp_path: Path) -> None:
    for index in range(4):
        photo(tmp_path / "images" / f"{index}.jpg", index)
        mask(tmp_path / "labels" / f"{index}_color.png", colors=True)
        mask(tmp_path / "labels" / f"{index}_labelIds.png")
        mask(tmp_path / "labels" / f"{index}_instanceIds.png")
    assert find_layout(tmp_path, picture_files(tmp_path)).masks.text == "labels/{name}_labelIds.png"


def test_the_folder_with_most_pairs_counts(tmp_path: Path) -> None:
    for index in range(6):
        photo(tmp_path / "images" / f"{index}.jpg", index)
    for folder, count in (("few", 2), ("most", 5)):
        for index in range(count):
            mask(tmp_path / folder / f"{index}.png")
    found = find_layout(tmp_path, picture_files(tmp_path))
    assert found.masks.text == "most/{name}.png"
    assert found.unlabeled == ["5"]


def test_patterns_that_are_known_are_kept(tmp_path: Path) -> None:
    for index in range(3):
        photo(tmp_path / "images" / f"{index}.jpg", index)
        for folder in ("masks", "other"):
            mask(tmp_path / folder / f"{index}.png")
    files = picture_files(tmp_path)
    assert find_layout(tmp_path, files, masks="other/{name}.png").masks.text == "other/{name}.png"
    both = find_layout(tmp_path, files, images="other", masks="masks")
    assert (both.images.text, both.masks.text) == ("other/{name}.*", "masks/{name}.*")


def test_nothing_that_fits(tmp_path: Path) -> None:
    photo(tmp_path / "a" / "x.jpg")
    photo(tmp_path / "b" / "y.jpg")
    with pytest.raises(AtrousError, match=r"2 pictures, but no two folders with files of the same names"):
        find_layout(tmp_path, picture_files(tmp_path))
    with pytest.raises(AtrousError, match=r"no picture a/\{name\}\.\* has a mask b/\{name\}\.\*"):
        find_layout(tmp_path, picture_files(tmp_path), images="a", masks="b")


@pytest.mark.parametrize(
    ("names", "lists", "splits"),
    [
        (["train/0", "valid/1", "test/2"], {}, {"train": ("train/*",), "val": ("valid/*",), "test": ("test/*",)}),
        (["train/0", "test/1"], {}, {"test": ("test/*",), "train": 0.8, "val": 0.2}),
        (["0", "1"], {}, {"train": 0.8, "val": 0.2}),
        (
            ["0", "1"],
            {"sets/train.txt": "0\n", "sets/val.txt": "1\n"},
            {"train": ("sets/train.txt",), "val": ("sets/val.txt",)},
        ),
        (["0", "1"], {"train.txt": "other\n", "val.txt": "names\n"}, {"train": 0.8, "val": 0.2}),
    ],
)
def test_splits(tmp_path: Path, names: list[str], lists: dict[str, str], splits: dict[str, object]) -> None:
    for path, content in lists.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(content, encoding="utf-8")
    assert find_splits(tmp_path, names) == splits


def test_one_image_is_not_enough(tmp_path: Path) -> None:
    with pytest.raises(AtrousError, match="1 labeled image is not enough"):
        find_splits(tmp_path, ["a"])
