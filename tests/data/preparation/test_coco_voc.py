"""COCO's images with VOC's classes: which are taken, what their masks hold, and that nothing is done twice."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from atrous.data.preparation import coco_voc
from atrous.data.preparation.coco_voc import draw_coco_voc
from atrous.data.preparation.sets import prepare
from atrous.data.sets import CocoVOC, Mix
from atrous.errors import AtrousError

CATEGORIES = [0, 5, 2, 16, 9, 44, 6, 3, 17, 62, 21, 67, 18, 19, 4, 1, 64, 20, 63, 7, 72]
"""COCO's ids in the order of VOC's classes, as torchvision's reference lists them."""
NAMES = dict(zip(
    CATEGORIES[1:],
    ["airplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "dining table", "dog",
     "horse", "motorcycle", "person", "potted plant", "sheep", "couch", "train", "tv"],
    strict=True,
))  # fmt: skip
"""And COCO's names of them (instances_val2017.json)."""
HEIGHT, WIDTH = 60, 80


def box(left: int, top: int, right: int, bottom: int) -> list[list[float]]:
    return [[left, top, right, top, right, bottom, left, bottom]]


@pytest.fixture
def coco(tmp_path: Path) -> Callable[..., Path]:
    """Images: one with every class in turn, one with too little, one with another class, one with two on each other."""

    def written(part: str = "train2017", **changes: Any) -> Path:
        objects = [
            *((7, category, box(4 * n, 0, 4 * n + 4, 30), 120.0) for n, category in enumerate(CATEGORIES[1:])),
            (8, 17, box(0, 0, 25, 40), 1000.0),
            (9, 90, box(0, 0, 60, 60), 3600.0),
            (10, 17, box(0, 0, 40, 40), 1600.0),
            (10, 90, box(0, 0, 80, 60), 4800.0),
            (10, 18, box(30, 30, 60, 60), 900.0),
        ]
        content = {
            "images": [
                {"id": n, "file_name": f"{n:012d}.jpg", "height": HEIGHT, "width": WIDTH} for n in (7, 8, 9, 10)
            ],
            "categories": [{"id": id_, "name": name} for id_, name in {**NAMES, 90: "toothbrush"}.items()],
            "annotations": [
                {"id": n, "image_id": image, "category_id": category, "segmentation": outline, "area": area}
                for n, (image, category, outline, area) in enumerate(objects)
            ],
            **changes,
        }
        folder = tmp_path / "coco"
        for name in ("annotations", part):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for number in (7, 8, 9, 10):
            Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)).save(folder / part / f"{number:012d}.jpg")
        (folder / "annotations" / f"instances_{part}.json").write_text(json.dumps(content))
        return tmp_path

    return written


@pytest.mark.parametrize("workers", [1, 2])
def test_masks_of_vocs_classes(workers: int, coco: Callable[..., Path]) -> None:
    root = coco()
    draw_coco_voc(root, "train", workers=workers)
    data = CocoVOC("train", root=root)
    assert data.names == ["000000000007", "000000000010"], "more than 1,000 pixels of VOC's classes"
    every, both = data[0].mask, data[1].mask
    np.testing.assert_array_equal(every[:30], np.repeat(np.arange(1, 21), 4)[None].repeat(30, axis=0))
    assert not every[30:].any()
    expected = np.zeros((HEIGHT, WIDTH), dtype=int)
    expected[:40, :40] = 8  # cat
    expected[30:, 30:60] = 12  # dog
    expected[30:40, 30:40] = 255
    np.testing.assert_array_equal(both, expected)


def test_both_parts_and_an_older_release(coco: Callable[..., Path]) -> None:
    for part in ("train2014", "val2014"):
        root = coco(part)
    for split in ("train", "val"):
        draw_coco_voc(root, split, year=2014, workers=1)
    assert len(CocoVOC("trainval", root=root / "coco", year=2014)) == 4


def test_a_mix_is_prepared_with_the_splits_of_its_first_part(coco: Callable[..., Path]) -> None:
    for part in ("train2017", "val2017"):
        root = coco(part)
    mix = functools.partial(Mix, parts={"coco_voc": CocoVOC}, train_splits={"coco_voc": "train"}, root=root)
    prepare(mix, ["train", "val"], fetch=False, workers=1, say=print)
    assert [len(mix(split=split)) for split in ("train", "val")] == [2, 2]


def test_what_is_drawn_is_kept_until_annotations_change(
    coco: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, drawn = coco(), []
    original = coco_voc.draw

    def once(image: Any, *args: Any, **options: Any) -> Any:
        drawn.append(image.file)
        if len(drawn) == 2 and not (root / "coco" / "go on").exists():
            raise KeyboardInterrupt
        return original(image, *args, **options)

    monkeypatch.setattr(coco_voc, "draw", once)
    with pytest.raises(KeyboardInterrupt):
        draw_coco_voc(root, "train", workers=1)
    with pytest.raises(AtrousError, match=r"masks of train2017 are not drawn yet .*run `python src/prepare\.py"):
        CocoVOC("train", root=root)
    (root / "coco" / "go on").touch()
    draw_coco_voc(root, "train", workers=1)
    assert drawn == ["000000000007.jpg", "000000000010.jpg", "000000000010.jpg"], "the first one was kept"
    said: list[str] = []
    draw_coco_voc(root, "train", workers=1, say=said.append)
    assert said == ["coco_voc: the masks of train2017 are drawn already"]
    assert len(drawn) == 3
    coco(annotations=[])
    draw_coco_voc(root, "train", workers=1, say=said.append)
    assert "has changed; its masks are drawn anew" in said[1]
    assert not list((root / "coco" / "voc_masks").rglob("*.png"))


def test_mistakes_are_explained(coco: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(AtrousError, match=r"no COCO in .*unpack train2017\.zip and annotations_trainval2017\.zip"):
        draw_coco_voc(tmp_path, "train")
    root = coco(annotations=[
        {"id": 1, "image_id": 7, "category_id": 17, "segmentation": [[1.0, 2.0]], "area": 2000.0}
    ])  # fmt: skip
    with pytest.raises(AtrousError, match=r"annotations of 000000000007\.jpg: an outline of 'cat' has 1 corners"):
        draw_coco_voc(root, "train", workers=1)
    (root / "coco" / "annotations" / "instances_train2017.json").unlink()
    with pytest.raises(AtrousError, match=r"instances_train2017\.json is missing: unpack annotations_trainval2017"):
        draw_coco_voc(root, "train")
