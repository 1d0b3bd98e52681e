from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atrous.data.preparation.describe.classes import Classes, find_classes
from atrous.data.preparation.describe.contents import look_at
from atrous.errors import AtrousError

SIZE = (8, 10)


def classes_of(folder: Path, *masks: np.ndarray, palette: list[int] | None = None) -> Classes:
    images, files = [], []
    for index, pixels in enumerate(masks):
        images.append(folder / f"{index}.png")
        files.append(folder / f"{index}_mask.png")
        Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(images[-1])
        picture = Image.fromarray(pixels)
        if palette is not None:
            picture.putpalette(palette)
        picture.save(files[-1])
    return find_classes(folder, "mine", look_at(images, files, workers=1))


def filled(*values: int, kind: type = np.uint8) -> np.ndarray:
    pixels = np.full(SIZE, values[0], kind)
    pixels[0, : len(values)] = values
    return pixels


@pytest.mark.parametrize(
    ("masks", "ids", "void"),
    [
        ([filled(0, 3), filled(7)], (0, 3, 7), (255,)),
        ([filled(0, 3, 255)], (0, 3), (255,)),
        ([filled(0), filled(255)], (0, 255), ()),
        ([filled(255)], (0, 255), ()),
        ([filled(0, 1)], (0, 1), (255,)),
        ([filled(300, 60000, kind=np.uint16)], (300, 60000), (255,)),
        ([np.repeat(filled(0, 5)[..., None], 3, axis=2)], (0, 5), (255,)),
    ],
)
def test_ids(tmp_path: Path, masks: list[np.ndarray], ids: tuple[int, ...], void: tuple[int, ...]) -> None:
    found = classes_of(tmp_path, *masks)
    assert found.color_code is None
    assert found.label_space.raw_ids == ids
    assert found.label_space.ignored_raw_ids == void


def test_a_palette_gives_the_colors(tmp_path: Path) -> None:
    palette = [0, 0, 0, 10, 20, 30, 40, 50, 60] + [0] * 759
    found = classes_of(tmp_path, filled(0, 2), palette=palette)
    assert found.label_space.palette == ((0, 0, 0), (40, 50, 60))
    assert found.color_code is None


def test_colors_are_classes_and_the_most_frequent_is_first(tmp_path: Path) -> None:
    colored = np.zeros((*SIZE, 3), np.uint8)
    colored[0, :3] = (200, 10, 10)
    colored[1, 0] = (0, 0, 255)
    found = classes_of(tmp_path, colored)
    assert found.color_code is not None
    assert found.color_code.classes == ((0, 0, 0), (200, 10, 10), (0, 0, 255))
    assert found.label_space.palette == found.color_code.classes


@pytest.mark.parametrize(
    ("file", "content", "names", "void"),
    [
        ("classes.txt", "road\nside walk\nsky\n", ("road", "side walk", "sky"), (255,)),
        ("classes.txt", "0 road\n1: side walk\n2,sky", ("road", "side walk", "sky"), (255,)),
        ("labels.txt", "road\nvoid\nsky\n", ("road", "sky"), (1,)),
        ("label_names.json", '{"road": 0, "side walk": 1, "sky": 2}', ("road", "side walk", "sky"), (255,)),
        ("classes.json", '["road", "side walk", "sky"]', ("road", "side walk", "sky"), (255,)),
        ("codes.txt", "unrelated\n", ("class_0", "class_1", "class_2"), (255,)),
        ("notes.txt", "a\nb\nc\n", ("class_0", "class_1", "class_2"), (255,)),
    ],
)
def test_names_of_ids(tmp_path: Path, file: str, content: str, names: tuple[str, ...], void: tuple[int, ...]) -> None:
    (tmp_path / file).write_text(content, encoding="utf-8")
    found = classes_of(tmp_path, filled(0, 1, 2)).label_space
    assert found.classes == names
    assert found.ignored_raw_ids == void


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("class_dict.csv", "name,r,g,b\nRoad,128,64,128\nVoid,0,0,0\nSky,70,130,180\n"),
        ("label_colors.txt", "128 64 128\tRoad\n0 0 0\tVoid\n70 130 180\tSky\n"),
        ("labelmap.txt", "# label:color_rgb:parts:actions\nRoad:128,64,128::\nVoid:0,0,0::\nSky:70,130,180::\n"),
    ],
)
def test_names_of_colors(tmp_path: Path, file: str, content: str) -> None:
    (tmp_path / file).write_text(content, encoding="utf-8")
    colored = np.zeros((*SIZE, 3), np.uint8)
    colored[0] = (128, 64, 128)
    found = classes_of(tmp_path, colored)
    assert found.label_space.classes == ("Road", "Sky")
    assert found.color_code is not None
    assert found.color_code.void == ((0, 0, 0),)
    assert found.color_code.classes == ((128, 64, 128), (70, 130, 180))


def test_smoothed_masks_are_told(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    with pytest.raises(AtrousError, match=r"1,600 colors, more than the 255 .* they were smoothed"):
        classes_of(tmp_path, noise)


def test_single_files_that_are_wrong_are_listed_and_the_others_count(tmp_path: Path) -> None:
    images, masks = (
        [tmp_path / f"{index}.png" for index in range(4)],
        [tmp_path / f"{index}_m.png" for index in range(4)],
    )
    for index in range(4):
        Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(images[index])
        Image.fromarray(filled(0, 1)).save(masks[index])
    masks[0].write_bytes(masks[0].read_bytes()[:40])
    images[1].write_bytes(b"")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(masks[2])
    contents = look_at(images, masks, workers=1)
    assert contents.ids == {0: 81 + 79, 1: 1}
    assert len(contents.problems) == 3
    assert all(any(name in problem for problem in contents.problems) for name in ("0_m.png", "1.png", "2_m.png"))
