"""Outlines become the masks that COCO's own tools make of them, whatever tool wrote them."""

from __future__ import annotations

import contextlib
import io
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from atrous.data.annotations import AnnotatedImage, Outline, draw, read_coco, read_labelme, read_yolo
from atrous.errors import AtrousError

HEIGHT, WIDTH = 64, 128
IDS = {"cat": 3, "dog": 5}
TRIANGLE, SQUARE = [5.0, 4.0, 30.5, 6.0, 12.0, 30.0], [20.0, 10.0, 50.0, 10.0, 50.0, 35.0, 20.0, 35.0]


def compressed(inside: np.ndarray) -> dict[str, Any]:
    encoded = coco_mask.encode(np.asfortranarray(inside.astype(np.uint8)))
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode()}


def plain(inside: np.ndarray) -> dict[str, Any]:
    columns = inside.T.ravel().astype(int)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], columns, [2]])))
    return {"size": [HEIGHT, WIDTH], "counts": np.diff(np.concatenate([[0], edges])).tolist()}


def annotations() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    blob = rng.random((HEIGHT, WIDTH)) < 0.02
    blob[20:30, 40:55] = True
    segmentations = [[TRIANGLE], [SQUARE, TRIANGLE], compressed(blob), plain(blob[::-1]), [SQUARE]]
    return {
        "images": [
            {"id": 7, "file_name": "b.jpg", "height": HEIGHT, "width": WIDTH},
            {"id": 3, "file_name": "a.jpg", "height": HEIGHT, "width": WIDTH},
        ],
        "categories": [{"id": 18, "name": "dog"}, {"id": 17, "name": "cat"}, {"id": 1, "name": "person"}],
        "annotations": [
            {"id": number, "image_id": 7, "category_id": category, "segmentation": segmentation, "area": 10.5,
             "iscrowd": int(isinstance(segmentation, dict))}
            for number, (category, segmentation) in enumerate(zip((17, 18, 17, 1, 18), segmentations, strict=True))
        ],
    }  # fmt: skip


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def written(content: Any, name: str = "a.json") -> Path:
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return written


@pytest.mark.parametrize("overlap", ["last", "void"])
def test_coco_is_drawn_as_by_its_own_tools(overlap: Any, write: Callable[..., Path]) -> None:
    path = write(annotations())
    classes, images = read_coco(path)
    assert classes == ("person", "cat", "dog")
    assert [image.file for image in images] == ["b.jpg", "a.jpg"]
    with contextlib.redirect_stdout(io.StringIO()):
        oracle = COCO(str(path))
    expected = np.zeros((HEIGHT, WIDTH), dtype=int)
    times = np.zeros((HEIGHT, WIDTH), dtype=int)
    for each in annotations()["annotations"]:
        if each["category_id"] != 1:
            inside = oracle.annToMask(each).astype(bool)
            expected[inside] = {17: 3, 18: 5}[each["category_id"]]
            times += inside
    assert times.max() > 1
    if overlap == "void":
        expected[times > 1] = 255
    np.testing.assert_array_equal(draw(images[0], IDS, overlap=overlap), expected)
    assert (draw(images[1], IDS, background=9) == 9).all()


@pytest.mark.parametrize("seed", range(5))
def test_compressed_runs_are_understood(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for share in (0.0, 0.01, 0.5, 1.0):
        inside = rng.random((HEIGHT, WIDTH)) < share
        for runs in (compressed(inside), plain(inside)):
            image = AnnotatedImage("a.jpg", (HEIGHT, WIDTH), (Outline("cat", runs=runs),))
            np.testing.assert_array_equal(draw(image, {"cat": 1}), inside)


def test_labelme_and_yolo_are_drawn_alike(write: Callable[..., Path]) -> None:
    pairs = [(label, [polygon[at : at + 2] for at in range(0, len(polygon), 2)]) for label, polygon in
             (("cat", TRIANGLE), ("dog", SQUARE))]  # fmt: skip
    shapes = [{"label": label, "points": points, "shape_type": "polygon"} for label, points in pairs]
    labelme = read_labelme(write(
        {"imagePath": "..\\images\\a b.jpg", "imageHeight": HEIGHT, "imageWidth": WIDTH, "imageData": None,
         "shapes": [*shapes, {"label": "cat", "points": [[3, 3]], "shape_type": "point"}]}
    ))  # fmt: skip
    assert labelme.file == "a b.jpg"
    lines = [
        " ".join([str(["cat", "dog"].index(label)), *(f"{x / WIDTH:.9f} {y / HEIGHT:.9f}" for x, y in points)])
        for label, points in pairs
    ]
    yolo = read_yolo(write("\n".join([*lines, ""]), "a.txt"), ["cat", "dog"], file="a.jpg", size=(HEIGHT, WIDTH))
    coco = AnnotatedImage(
        "a.jpg", (HEIGHT, WIDTH), (Outline("cat", (tuple(TRIANGLE),)), Outline("dog", (tuple(SQUARE),)))
    )
    expected = draw(coco, IDS)
    assert set(np.unique(expected)) == {0, 3, 5}
    np.testing.assert_array_equal(draw(labelme, IDS), expected)
    np.testing.assert_array_equal(draw(yolo, IDS), expected)
    absent = read_yolo(Path("none.txt"), ["cat"], file="a.jpg", size=(HEIGHT, WIDTH))
    assert not draw(absent, IDS).any()


def test_rectangles_and_circles_of_labelme(write: Callable[..., Path]) -> None:
    def drawn(kind: str, points: list[list[float]]) -> np.ndarray:
        shape = {"label": "cat", "points": points, "shape_type": kind}
        content = {"imagePath": "a.jpg", "imageHeight": HEIGHT, "imageWidth": WIDTH, "shapes": [shape]}
        return draw(read_labelme(write(content)), IDS) == 3

    box = np.zeros((HEIGHT, WIDTH), dtype=bool)
    box[5:20, 10:30] = True
    np.testing.assert_array_equal(drawn("rectangle", [[10, 5], [30, 20]]), box)
    np.testing.assert_array_equal(drawn("rectangle", [[30, 20], [10, 5]]), box)
    circle = drawn("circle", [[30, 20], [30, 32]])
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    distance = np.hypot(rows - 20, columns - 30)
    assert circle[distance < 11.3].all()
    assert not circle[distance > 12.7].any()
    assert circle.sum() == pytest.approx(math.pi * 144, rel=0.02)


def change(content: dict[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    content["annotations"][0] |= change
    return content


@pytest.mark.parametrize(
    ("segmentation", "says"),
    [
        ([[1.0, 2.0, 3.0, 4.0]], "has 2 corners; an area takes three"),
        ([[1.0, 2.0, 3.0, 4.0, 5.0]], "is no list of coordinates"),
        ([[1.0, 2.0, 3.0, 4.0, 5.0, math.nan]], "is no list of coordinates"),
        ([[1.0, 2.0, 3.0, 4.0, 5.0, 1e9]], "is no list of coordinates"),
        ({"size": [HEIGHT, WIDTH], "counts": [3, 4]}, "do not cover the 128x64 pixels"),
        ({"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH + 5, -5]}, "do not cover"),
        ({"size": [WIDTH, HEIGHT], "counts": [HEIGHT * WIDTH]}, "do not cover"),
        ({"size": [HEIGHT, WIDTH], "counts": "000000"}, "do not cover"),
        ({"size": [HEIGHT, WIDTH], "counts": "\u00e9~\x7f"}, "do not cover"),
        ({"size": [HEIGHT, WIDTH]}, "do not cover"),
    ],
)
def test_outlines_that_cannot_be_drawn(segmentation: Any, says: str, write: Callable[..., Path]) -> None:
    _, images = read_coco(write(change(annotations(), {"segmentation": segmentation})))
    with pytest.raises(AtrousError, match=says):
        draw(images[0], IDS)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "no JSON in UTF-8"),
        ("[" * 100_000, "no JSON in UTF-8"),
        ("[]", "cannot be read as COCO's annotations"),
        ({"images": []}, "KeyError of 'categories'"),
        (change(annotations(), {"category_id": 99}), "KeyError of 99"),
        (change(annotations(), {"segmentation": 4}), "cannot be read as COCO"),
        (change(annotations(), {"image_id": None}), "cannot be read as COCO"),
    ],
)
def test_files_of_another_form(content: Any, says: str, write: Callable[..., Path]) -> None:
    with pytest.raises(AtrousError, match=rf"a\.json: .*{says}"):
        read_coco(write(content))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("0 0.1 0.2 0.3 0.4", "line 2: a box instead of an outline"),
        ("5 0.1 0.2 0.3 0.4 0.5 0.6", "line 2: there is no class 5 among the 1"),
        ("cat 0.1 0.2 0.3", "line 2: not a class number"),
    ],
)
def test_lines_that_are_no_outline(line: str, says: str, write: Callable[..., Path]) -> None:
    path = write(f"0 0.1 0.1 0.5 0.1 0.5 0.5\n{line}\n", "a.txt")
    with pytest.raises(AtrousError, match=says):
        read_yolo(path, ["cat"], file="a.jpg", size=(HEIGHT, WIDTH))


def test_shapes_without_an_area_are_named(write: Callable[..., Path]) -> None:
    shape = {"label": "cat", "points": [[1, 2], [3, 4]], "shape_type": "mask"}
    content = {"imagePath": "a.jpg", "imageHeight": HEIGHT, "imageWidth": WIDTH, "shapes": [shape]}
    with pytest.raises(AtrousError, match="a 'cat' has the shape 'mask'"):
        read_labelme(write(content))
    with pytest.raises(AtrousError, match="Labelme's annotations of an image: KeyError of 'shapes'"):
        read_labelme(write({"version": "5"}))
