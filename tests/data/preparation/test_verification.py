"""All faults of a data set are found at once, and none where there is none."""

from __future__ import annotations

import functools
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atrous.data.preparation.verification import verify
from atrous.data.sets import VOC2012, CamVid, Folder, Shapes


@pytest.mark.parametrize("workers", [1, 2])
def test_every_fault_is_named(voc_folder: Path, workers: int) -> None:
    lists, images, masks = (voc_folder / part for part in ("ImageSets/Segmentation", "JPEGImages", "SegmentationClass"))
    names = [f"2010_{number:06d}" for number in range(8)]
    for number, name in enumerate(names):
        Image.fromarray(np.full((24, 32, 3), 10 * number, dtype=np.uint8)).save(images / f"{name}.jpg")
        shutil.copy(masks / "2007_000001.png", masks / f"{name}.png")
    (images / f"{names[0]}.jpg").unlink()
    (masks / f"{names[1]}.png").unlink()
    (images / f"{names[2]}.jpg").write_bytes((images / f"{names[2]}.jpg").read_bytes()[:400])
    (masks / f"{names[3]}.png").write_bytes(b"")
    Image.fromarray(np.zeros((32, 24), dtype=np.uint8)).save(masks / f"{names[4]}.png")
    Image.fromarray(np.full((24, 32), 40, dtype=np.uint8)).save(masks / f"{names[5]}.png")
    Image.fromarray(np.zeros((24, 32, 3), dtype=np.uint8)).save(masks / f"{names[6]}.png")
    shutil.copy(images / "2008_000003.jpg", images / f"{names[7]}.jpg")
    listed = ["2007_000001", "", *names, "2007_000001", "2008_000003"]
    (lists / "train.txt").write_text("\n".join(listed))
    build = functools.partial(VOC2012, root=voc_folder)
    verdict = verify(lambda split: build(split), ("train", "val"), workers=workers)
    words = [
        "train.txt: line 2 is empty",
        f"{names[0]}.jpg: image file of voc train is missing",
        f"{names[1]}.png: mask file of voc train is missing",
        "voc train: '2007_000001' is listed 2 times",
        f"{names[2]}.jpg: image cannot be read",
        f"{names[3]}.png: mask cannot be read",
        f"{names[4]}.jpg is 32x24 pixels but its mask",
        f"{names[5]}.png: label ids 40 are outside the label space 'voc'",
        f"{names[6]}.png: mask cannot be read: a mask must be a palette or grayscale",
        "'2008_000003' is in train and in val",
        f"'{names[7]}' of train and '2008_000003' of val are the same image",
    ]
    assert len(verdict.problems) == len(words), verdict.problems
    for word in words:
        assert sum(word in problem for problem in verdict.problems) == 1, word
    assert verdict.lengths == {"train": 11, "val": 1}
    assert verdict.notes[0] == "voc train has 11 of the 1,464 published images"


def test_nothing_is_wrong_with_a_sound_data_set(camvid_folder: Path) -> None:
    verdict = verify(lambda split: CamVid(split, root=camvid_folder), ("train", "val", "trainval"), workers=1)
    assert verdict.problems == []  # and trainval may hold the others
    assert verdict.lengths == {"train": 3, "val": 2, "trainval": 5}
    drawn = verify(functools.partial(Shapes, lengths={"train": 3, "val": 2, "test": 2}), ("train", "val"), workers=1)
    assert drawn == ([], [], {"train": 3, "val": 2})


def test_a_split_that_cannot_be_opened_is_a_problem(camvid_folder: Path) -> None:
    shutil.rmtree(camvid_folder / "masks" / "val")
    verdict = verify(lambda split: CamVid(split, root=camvid_folder), ("val", "train"), workers=1)
    (problem,) = verdict.problems
    assert problem.startswith("camvid: no split 'val'")
    assert verdict.lengths == {"train": 3}


def test_everything_that_is_wrong_with_a_users_folder(own_folder: Path) -> None:
    text = (own_folder / "atrous.yaml").read_text(encoding="utf-8")
    (own_folder / "atrous.yaml").write_text(
        text.replace("{train: 0.7, val: 0.3}", "{train: train.txt, val: val.txt}"), encoding="utf-8"
    )
    (own_folder / "train.txt").write_text("0\n1\n\nnowhere\n1\n2\n3\n", encoding="utf-8")
    (own_folder / "val.txt").write_text("4\n5\n", encoding="utf-8")
    (own_folder / "painted" / "2.png").unlink()
    Image.fromarray(np.full((40, 56, 3), 9, np.uint8)).save(own_folder / "painted" / "3.png")
    cut = (own_folder / "photos" / "4.jpg").read_bytes()
    (own_folder / "photos" / "4.jpg").write_bytes(cut[: len(cut) // 2])
    shutil.copy(own_folder / "photos" / "0.jpg", own_folder / "photos" / "5.jpg")
    verdict = verify(functools.partial(Folder, root=own_folder), ("train", "val"), workers=1)
    expected = (
        r"train\.txt: line 3 is empty", r"train\.txt, line 4: 'nowhere': there is no such image",
        r"train\.txt: '1' is listed 2 times", r"2\.jpg: it has no mask painted/2\.png",
        r"3\.png: colors #090909 \(2,240 pixels\)", r"4\.jpg: image cannot be read",
        r"'0' of train and '5' of val are the same image",
    )  # fmt: skip
    assert len(verdict.problems) == len(expected), verdict.problems
    for sentence in expected:
        assert sum(bool(re.search(sentence, problem)) for problem in verdict.problems) == 1, sentence


@pytest.mark.parametrize(
    ("one", "other", "held"),
    [
        ("train", "val", False),
        ("train", "trainval", True),
        ("train", "train_extra", False),
        ("train", "trainaug", True),
    ],
)
def test_splits_that_hold_others_are_not_compared(camvid_folder: Path, one: str, other: str, held: bool) -> None:
    dataset = CamVid("train", root=camvid_folder)
    verdict = verify(lambda split: dataset, (one, other), workers=1)
    assert (verdict.problems == []) == held
