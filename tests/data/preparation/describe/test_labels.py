"""Labels of tools, drawn: pycocotools says which pixels a polygon has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from atrous.data.description import FILE, write_description
from atrous.data.preparation.describe import describe
from atrous.data.sets import Folder
from atrous.errors import AtrousError

HEIGHT, WIDTH = 40, 60
CAT = [[5.5, 5.0, 30.0, 6.5, 20.0, 30.25]]
DOG = [[25.0, 10.0, 55.0, 10.0, 55.0, 35.0, 25.0, 35.0]]


def photo(path: Path, seed: int, orientation: int | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    size = (HEIGHT, WIDTH) if orientation in (None, 3) else (WIDTH, HEIGHT)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, exif=exif)


def inside(polygons: list[list[float]]) -> np.ndarray:
    encoded = coco_mask.merge(coco_mask.frPyObjects(polygons, HEIGHT, WIDTH))
    return coco_mask.decode(encoded).astype(bool)


def expected(cat: int, dog: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[inside(CAT)] = cat
    mask[inside(DOG)] = dog
    return mask


def masks(folder: Path) -> dict[str, np.ndarray]:
    found = describe(folder, workers=1)
    assert found.problems == []
    write_description(found.root / FILE, found.description)
    datasets = [Folder(split, root=found.root) for split in found.description.splits]
    return {sample.name: sample.mask for each in datasets for sample in (each[index] for index in range(len(each)))}


def coco(images: list[str], *, runs: bool = False, categories: tuple[str, ...] = ("dog", "cat")) -> dict[str, Any]:
    """Every image with a cat and, over it, a dog; the ids of classes are 17 and 3."""
    numbers = {"dog": 17, "cat": 3, "bird": 99}
    annotations = []
    for image in range(len(images)):
        for name, polygons in (("cat", CAT), ("dog", DOG)):
            segmentation: Any = polygons
            if runs:
                counts = [0] if inside(polygons).T.ravel()[0] else []
                flat = inside(polygons).T.ravel()
                edges = np.flatnonzero(np.diff(flat)) + 1
                counts += np.diff([0, *edges, flat.size]).tolist()
                segmentation = {"size": [HEIGHT, WIDTH], "counts": counts}
            annotations.append({"image_id": image, "category_id": numbers[name], "segmentation": segmentation})
    return {
        "images": [
            {"id": index, "file_name": file, "height": HEIGHT, "width": WIDTH} for index, file in enumerate(images)
        ],
        "annotations": annotations,
        "categories": [{"id": numbers[name], "name": name} for name in categories],
    }


@pytest.mark.parametrize("runs", [False, True])
def test_coco_in_one_file(tmp_path: Path, runs: bool) -> None:
    for index in range(3):
        photo(tmp_path / "images" / f"{index}.jpg", index)
    (tmp_path / "annotations.json").write_text(json.dumps(coco(["0.jpg", "1.jpg"], runs=runs)), encoding="utf-8")
    found = masks(tmp_path)
    assert sorted(found) == ["0", "1"]  # the third is not in the file
    description = describe(tmp_path).description
    assert description.label_space.classes == ("background", "cat", "dog")  # in the order of their ids
    assert description.unlabeled == "skip"
    for mask in found.values():
        assert (mask == expected(1, 2)).all()
        assert (mask == 1).any()
        assert (mask == 2).any()


def test_coco_of_several_splits(tmp_path: Path) -> None:
    for folder, count in (("train", 3), ("valid", 1)):
        names = [f"{folder}{index}.jpg" for index in range(count)]
        for index, name in enumerate(names):
            photo(tmp_path / folder / name, index)
        (tmp_path / folder / "_annotations.coco.json").write_text(json.dumps(coco(names)), encoding="utf-8")
    assert len(masks(tmp_path)) == 4
    for split, count in (("train", 3), ("val", 1)):
        assert len(Folder(split, root=tmp_path)) == count


def test_coco_of_several_splits_in_one_folder(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    of_split = {"train": ["a.jpg", "b.jpg", "c.jpg"], "val": ["d.jpg"], "test": ["e.jpg", "f.jpg"]}
    for seed, name in enumerate("abcdef"):
        photo(tmp_path / "images" / f"{name}.jpg", seed)
    for split, names in of_split.items():
        path = tmp_path / "annotations" / f"instances_{split}2017.json"
        path.write_text(json.dumps(coco(names)), encoding="utf-8")
    masks(tmp_path)
    for split, names in of_split.items():
        assert [f"{name}.jpg" for name in Folder(split, root=tmp_path).names] == names


def test_what_several_files_say_about_an_image_is_joined(tmp_path: Path) -> None:
    for index in range(2):
        photo(tmp_path / f"{index}.jpg", index)
    names = ["0.jpg", "1.jpg"]
    whole = coco(names)
    for number in (3, 17):
        part = {**whole, "annotations": [each for each in whole["annotations"] if each["category_id"] == number]}
        (tmp_path / f"class_{number}.json").write_text(json.dumps(part), encoding="utf-8")
    people = {**coco(names), "categories": [{"id": 17, "name": "person", "keypoints": ["nose"]}]}
    (tmp_path / "keypoints.json").write_text(json.dumps(people), encoding="utf-8")
    found = describe(tmp_path)
    assert found.description.splits.keys() == {"train", "val"}
    cats_below = expected(1, 2)
    space = found.description.label_space.classes
    assert space == ("background", "cat", "dog")
    for mask in masks(tmp_path).values():
        assert ((mask == cats_below) | ((mask == 1) & inside(CAT))).all()
        assert (mask == 2).any()


def with_masks_and_labels(folder: Path) -> None:
    """Two photographs, each with a mask of 7 and with Labelme's file."""
    for index in range(2):
        photo(folder / "photos" / f"{index}.jpg", index)
        labelme(folder / "photos", str(index))
        (folder / "masks").mkdir(exist_ok=True)
        Image.fromarray(np.full((HEIGHT, WIDTH), 7, np.uint8)).save(folder / "masks" / f"{index}.png")


def test_masks_may_be_meant_where_there_are_labels(tmp_path: Path) -> None:
    with_masks_and_labels(tmp_path)
    assert describe(tmp_path, labels="masks").description.label_space.raw_ids == (7,)
    assert describe(tmp_path).description.masks.text == "masks_from_labelme/{name}.png"
    assert describe(tmp_path, labels="masks").description.masks.text == "masks/{name}.png", "not the drawn ones"


def test_a_pattern_means_masks(tmp_path: Path) -> None:
    with_masks_and_labels(tmp_path)
    assert describe(tmp_path, masks="masks").description.masks.text.startswith("masks/{name}")
    with pytest.raises(AtrousError, match=r"leave out describe\.labels=labelme"):
        describe(tmp_path, masks="masks", labels="labelme")


def yolo(folder: Path, images: list[str]) -> None:
    for index, image in enumerate(images):
        photo(folder / image, index)
        label = folder / Path(image.replace("images/", "labels/")).with_suffix(".txt")
        label.parent.mkdir(parents=True, exist_ok=True)
        lines = [
            f"{number} " + " ".join(f"{x / WIDTH} {y / HEIGHT}" for x, y in np.reshape(polygon[0], (-1, 2)))
            for number, polygon in ((0, CAT), (1, DOG))
        ]
        label.write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_yolo(tmp_path: Path) -> None:
    yolo(
        tmp_path,
        [f"images/{split}/{index}.jpg" for split, count in (("train", 3), ("val", 2)) for index in range(count)],
    )
    (tmp_path / "labels" / "val" / "1.txt").unlink()  # nothing on this image
    (tmp_path / "data.yaml").write_text("path: .\nnames: {0: cat, 1: dog}\n", encoding="utf-8")
    found = masks(tmp_path)
    assert sorted(found) == ["train/0", "train/1", "train/2", "val/0", "val/1"]
    assert len(Folder("val", root=tmp_path)) == 2
    for name, mask in found.items():
        assert (mask == (0 if name == "val/1" else expected(1, 2))).all()


def test_yolo_without_names(tmp_path: Path) -> None:
    yolo(tmp_path, ["images/0.jpg", "images/1.jpg"])
    with pytest.raises(AtrousError, match=r"names of their classes are expected in data\.yaml"):
        describe(tmp_path)


def labelme(folder: Path, name: str, *, shapes: list[tuple[str, list[list[float]]]] | None = None) -> None:
    shapes = [("cat", CAT), ("dog", DOG)] if shapes is None else shapes
    content = {
        "version": "5.4.1",
        "shapes": [
            {"label": label, "shape_type": "polygon", "points": np.reshape(polygons[0], (-1, 2)).tolist()}
            for label, polygons in shapes
        ],
        "imagePath": f"..\\photos\\{name}.jpg",
        "imageData": None,
        "imageHeight": HEIGHT,
        "imageWidth": WIDTH,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize("beside", [True, False])
def test_labelme(tmp_path: Path, beside: bool) -> None:
    for index in range(4):
        photo(tmp_path / "photos" / f"{index}.jpg", index)
        if index < 3:
            labelme(tmp_path / ("photos" if beside else "labels"), str(index))
    found = masks(tmp_path)
    assert sorted(found) == ["0", "1", "2"]
    assert all((mask == expected(1, 2)).all() for mask in found.values())


def test_other_json_files_are_no_labels(tmp_path: Path) -> None:
    for index in range(2):
        photo(tmp_path / f"{index}.jpg", index)
        labelme(tmp_path, str(index))
    (tmp_path / "settings.json").write_text('{"version": 3}', encoding="utf-8")
    assert len(masks(tmp_path)) == 2
    (tmp_path / "1.json").write_text('{"version": 3}', encoding="utf-8")
    with pytest.raises(AtrousError, match=r"1\.json: cannot be read as Labelme's"):
        describe(tmp_path)


def test_labelmes_own_labels(tmp_path: Path) -> None:
    for index in range(2):
        photo(tmp_path / f"{index}.jpg", index)
        labelme(tmp_path, str(index), shapes=[("cat", CAT), ("__ignore__", DOG)])
    space = describe(tmp_path).description.label_space
    assert space.classes == ("background", "cat")
    assert all((mask == expected(1, 255)).all() for mask in masks(tmp_path).values())


def test_labels_are_drawn_on_images_as_tools_show_them(tmp_path: Path) -> None:
    for index, orientation in enumerate((None, 3, 6)):
        photo(tmp_path / f"{index}.jpg", index, orientation)
        labelme(tmp_path, str(index))
    found = describe(tmp_path)
    assert found.description.orientation == "upright"
    assert found.problems == []
    write_description(tmp_path / FILE, found.description)
    for split in ("train", "val"):
        dataset = Folder(split, root=tmp_path)
        for index in range(len(dataset)):
            assert dataset[index].image.shape[:2] == dataset[index].mask.shape == (HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"imageHeight": 10}, r"0\.json: it labels 0\.jpg at 60x10 pixels, but the image has 60x40"),
        ({"imagePath": "other.jpg"}, r"1\.json|other\.jpg"),
        ({"shapes": [{"label": "cat", "points": [[0, 0], [1, float("nan")], [2, 2]]}]}, "coordinates"),
        ({"shapes": [{"label": "cat", "shape_type": "spline", "points": [[0, 0]]}]}, "'spline'"),
        ({"shapes": 3}, r"0\.json: cannot be read as Labelme's"),
    ],
)
def test_labels_that_make_no_sense(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    for index in range(2):
        photo(tmp_path / f"{index}.jpg", index)
        labelme(tmp_path, str(index))
    path = tmp_path / "0.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **change}), encoding="utf-8")
    if "imagePath" in change:
        (tmp_path / "0.jpg").unlink()
    with pytest.raises(AtrousError, match=sentence):
        describe(tmp_path, workers=1)


def test_drawing_again_gives_the_same_and_a_changed_label_another_mask(tmp_path: Path) -> None:
    for index in range(2):
        photo(tmp_path / f"{index}.jpg", index)
        labelme(tmp_path, str(index))
    first = masks(tmp_path)
    assert all((masks(tmp_path)[name] == mask).all() for name, mask in first.items())
    labelme(tmp_path, "0", shapes=[("cat", CAT)])
    assert not (masks(tmp_path)["0"] == first["0"]).all()
    assert (masks(tmp_path)["1"] == first["1"]).all()


def test_a_mask_whose_label_is_gone_goes_too(tmp_path: Path) -> None:
    for index in range(3):
        photo(tmp_path / f"{index}.jpg", index)
        labelme(tmp_path, str(index))
    assert sorted(masks(tmp_path)) == ["0", "1", "2"]
    (tmp_path / "1.json").unlink()
    assert sorted(masks(tmp_path)) == ["0", "2"]
