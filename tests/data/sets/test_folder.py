from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atrous.data.mask_file import write_mask
from atrous.data.sets import Folder
from atrous.errors import AtrousError

SIZE = (12, 20)


def write(path: Path, pixels: np.ndarray, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def describe(folder: Path, text: str) -> None:
    head = "images: images\nmasks: masks\nsplits: {train: 0.5, val: 0.5}\n"
    (folder / "atrous.yaml").write_text(head + text, encoding="utf-8")


def picture(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four images with masks of the ids 0, 1, 2 and 255."""
    for index in range(4):
        write(tmp_path / "images" / f"{index}.png", picture(index))
        ids = np.random.default_rng(index).choice(np.array([0, 1, 2, 255], np.uint8), SIZE)
        write(tmp_path / "masks" / f"{index}.png", ids)
    describe(tmp_path, "classes: [a, b, c]")
    return tmp_path


def everything(folder: Path) -> dict[str, np.ndarray]:
    samples = [dataset[index] for dataset in map_splits(folder) for index in range(len(dataset))]
    return {sample.name: sample.mask for sample in samples}


def map_splits(folder: Path) -> list[Folder]:
    return [Folder(split, root=folder) for split in ("train", "val")]


def test_ids(folder: Path) -> None:
    masks = everything(folder)
    assert sorted(masks) == ["0", "1", "2", "3"]
    for name, mask in masks.items():
        assert (mask == np.asarray(Image.open(folder / "masks" / f"{name}.png"))).all()
    sample = map_splits(folder)[0][0]
    assert (sample.image == picture(int(sample.name))).all()


@pytest.mark.parametrize("kind", ["sparse", "16 bit", "binary", "colors", "palette as colors", "gray as RGB", "1 bit"])
def test_every_kind_of_mask_gives_the_same_training_ids_and_comes_back(folder: Path, kind: str) -> None:
    expected = everything(folder)
    colors = np.zeros((256, 3), np.uint8)
    colors[[0, 1, 2, 255]] = (10, 20, 30), (30, 20, 10), (0, 0, 0), (255, 255, 255)
    raw = np.arange(256, dtype=np.uint16)
    text = "classes: [a, b, c]"
    if kind in ("binary", "1 bit"):
        expected = {name: (mask == 1).astype(np.uint8) for name, mask in expected.items()}
    if kind == "sparse":
        raw[[0, 1, 2, 255]] = 7, 26, 33, 0
        text = "classes: {a: 7, b: 26, c: 33}\nvoid: [0]"
    elif kind == "16 bit":
        raw[[0, 1, 2, 255]] = 300, 1000, 65535, 7
        text = "classes: {a: 300, b: 1000, c: 65535}\nvoid: [7]"
    elif kind == "binary":
        raw[[0, 1]] = 0, 255
        text = "classes: {a: 0, b: 255}"
    elif kind in ("colors", "palette as colors"):
        text = "classes: {a: '#0a141e', b: [30, 20, 10], c: '#000000'}\nvoid: ['#ffffff']"
    for name, mask in expected.items():
        path = folder / "masks" / f"{name}.png"
        if kind == "colors":
            write(path, colors[mask])
        elif kind == "palette as colors":
            image = Image.fromarray(255 - mask)  # ids that differ from the training ids
            image.putpalette([int(value) for value in colors[::-1].ravel()])
            image.save(path)
        elif kind == "gray as RGB":
            write(path, np.repeat(mask[..., None], 3, axis=2))
        elif kind == "1 bit":
            Image.fromarray(mask.astype(bool)).save(path)
        else:
            write(path, raw[mask].astype(np.uint8) if raw.max() < 256 else raw[mask])
    describe(folder, text)
    found = everything(folder)
    for name, mask in expected.items():
        assert (found[name] == mask).all()
    dataset = map_splits(folder)[0]
    for index, name in enumerate(dataset.names):  # as src/predict.py writes them
        path = folder / "written.png"
        write_mask(path, dataset.mask(index), dataset.label_space)
        was, now = Image.open(folder / "masks" / f"{name}.png"), Image.open(path)
        if kind in ("colors", "palette as colors"):
            labeled = dataset.mask(index) != 255
            assert (np.asarray(was.convert("RGB"))[labeled] == np.asarray(now.convert("RGB"))[labeled]).all()
        elif kind == "gray as RGB":
            assert (np.asarray(was)[..., 0] == np.asarray(now)).all()
        else:
            assert (np.asarray(was).astype(int) == np.asarray(now).astype(int)).all()


def test_an_id_or_a_color_that_no_class_has(folder: Path) -> None:
    path = folder / "masks" / "0.png"
    write(path, np.full(SIZE, 9, np.uint8))
    with pytest.raises(AtrousError, match=rf"{path}: label ids 9 are outside"):
        everything(folder)
    describe(folder, "classes: {a: '#000000', b: '#010101', c: '#020202'}\nvoid: ['#ffffff']")
    with pytest.raises(AtrousError, match=rf"{path}: colors #090909 \(240 pixels\)"):
        everything(folder)


def test_colors_where_ids_are_meant(folder: Path) -> None:
    pixels = np.zeros((*SIZE, 3), np.uint8)
    pixels[0, 0, 2] = 1  # red and green alone would be ids
    write(folder / "masks" / "0.png", pixels)
    with pytest.raises(AtrousError, match=r"0\.png: mask cannot be read: .*its mode is RGB"):
        everything(folder)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_masks_that_lost_their_values_are_refused(folder: Path, kind: str) -> None:
    write(folder / "masks" / "0.png", np.zeros(SIZE, np.uint8), format=kind)
    with pytest.raises(AtrousError, match=rf"0\.png: mask cannot be read: {kind} changes the values of pixels"):
        everything(folder)


@pytest.mark.parametrize("mode", ["LA", "CMYK"])
def test_modes_that_are_no_colors(folder: Path, mode: str) -> None:
    describe(folder, "classes: {a: '#000000'}")
    Image.new(mode, SIZE[::-1]).save(folder / "masks" / "0.png", format="PNG" if mode == "LA" else "TIFF")
    dataset = next(each for each in map_splits(folder) if "0" in each.names)
    with pytest.raises(AtrousError, match=rf"0\.png: mask cannot be read: .*its mode is {mode}"):
        dataset.mask(dataset.names.index("0"))


def test_a_mask_is_one_picture(folder: Path) -> None:
    frames = [Image.fromarray(np.full(SIZE, value, np.uint8)) for value in (0, 1)]
    frames[0].save(folder / "masks" / "0.png", format="TIFF", save_all=True, append_images=frames[1:])
    with pytest.raises(AtrousError, match=r"0\.png: mask cannot be read: it holds several pictures"):
        everything(folder)


def test_a_transparent_mask_of_colors(folder: Path) -> None:
    describe(folder, "classes: {a: '#000000'}")
    pixels = np.zeros((*SIZE, 4), np.uint8)
    for index in range(4):
        pixels[..., 3] = 255
        write(folder / "masks" / f"{index}.png", pixels)
    assert all((mask == 0).all() for mask in everything(folder).values())
    pixels[0, 0, 3] = 254
    write(folder / "masks" / "2.png", pixels)
    with pytest.raises(AtrousError, match=r"2\.png.*transparent"):
        everything(folder)


@pytest.mark.parametrize("tag", [3, 6])
@pytest.mark.parametrize("orientation", ["stored", "upright"])
def test_images_that_a_tag_turns(folder: Path, tag: int, orientation: str) -> None:
    pixels = picture(0)
    exif = Image.Exif()
    exif[0x0112] = tag
    (folder / "images" / "0.png").unlink()
    write(folder / "images" / "0.jpg", pixels, exif=exif, quality=95)
    stored = np.asarray(Image.open(folder / "images" / "0.jpg"))
    turned = np.rot90(stored, {3: 2, 6: 3}[tag])
    expected = turned if orientation == "upright" else stored
    write(folder / "masks" / "0.png", np.zeros(expected.shape[:2], np.uint8))
    with pytest.raises(AtrousError, match="orientation: stored or orientation: upright"):
        everything(folder)
    describe(folder, f"classes: [a, b, c]\norientation: {orientation}")
    dataset = next(each for each in map_splits(folder) if "0" in each.names)
    index = dataset.names.index("0")
    assert (dataset[index].image == expected).all()
    assert dataset.image_size(index) == expected.shape[:2]


def test_an_image_without_a_mask(folder: Path) -> None:
    (folder / "masks" / "1.png").unlink()
    with pytest.raises(AtrousError, match=r"1\.png: it has no mask masks/1"):
        everything(folder)
    describe(folder, "classes: [a, b, c]\nunlabeled: skip")
    assert sorted(everything(folder)) == ["0", "2", "3"]


def test_a_split_without_any_mask_has_no_labels(folder: Path) -> None:
    write(folder / "images" / "new" / "x.png", picture(9))
    text = (folder / "atrous.yaml").read_text(encoding="utf-8")
    (folder / "atrous.yaml").write_text(text.replace("val: 0.5", "val: 0.5, new: new/*"), encoding="utf-8")
    dataset = Folder("new", root=folder)
    assert not dataset.labeled
    assert (dataset[0].mask == 255).all()
    assert (dataset[0].image == picture(9)).all()


def test_two_images_of_one_name(folder: Path) -> None:
    write(folder / "images" / "0.bmp", picture(0))
    with pytest.raises(AtrousError, match=r"0\.bmp and images/0\.png are both images of '0'"):
        everything(folder)


def test_images_and_masks_side_by_side(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"{name}.png", picture(0))
        write(tmp_path / f"{name}_mask.png", np.zeros(SIZE, np.uint8))
    text = "images: '{name}.png'\nmasks: '{name}_mask.png'\nclasses: [a]\nsplits: {train: 0.5, val: 0.5}"
    (tmp_path / "atrous.yaml").write_text(text, encoding="utf-8")
    assert sorted(everything(tmp_path)) == ["a", "b"]


def test_what_is_missing_is_said_with_the_command_that_helps(folder: Path, tmp_path: Path) -> None:
    (folder / "atrous.yaml").unlink()
    with pytest.raises(AtrousError, match=rf"task=describe data\.root={folder}"):
        Folder("train", root=folder)
    with pytest.raises(AtrousError, match=r"there is no folder .*nowhere"):
        Folder("train", root=tmp_path / "nowhere")
    describe(folder, "classes: [a]")
    text = (folder / "atrous.yaml").read_text(encoding="utf-8")
    (folder / "atrous.yaml").write_text(text.replace("masks: masks", "masks: labels"), encoding="utf-8")
    with pytest.raises(AtrousError, match=r"there is no mask labels/\{name\}"):
        Folder("train", root=folder)


def test_the_fingerprint_changes_with_what_is_said_about_reading(folder: Path) -> None:
    fingerprints = set()
    for text in ("classes: [a, b, c]", "classes: [a, b, x]", "classes: [a, b, c]\norientation: upright"):
        describe(folder, text)
        fingerprints.add(Folder("train", root=folder).fingerprint(images=True))
    assert len(fingerprints) == 3
