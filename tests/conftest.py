"""Fixtures shared by all tests: where real data lies, and small data sets in the true file formats."""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import json
import logging
import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict
from PIL import Image
from scipy.io import savemat

from atrous.composition import register_resolvers
from atrous.data.sets.voc import VOC_2012

REPOSITORY = Path(__file__).resolve().parent.parent

# OpenVINO imports Abseil, whose handler closes the stream that it found, pytest's, when Hydra sets up logging again
importlib.import_module("absl.logging").get_absl_handler().python_handler.stream = sys.__stderr__


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with real images and masks; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("ATROUS_SHARED", REPOSITORY.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"no real data: {folder / 'data'} does not exist (set ATROUS_SHARED)")
    return folder


@pytest.fixture(scope="session")
def composed_in(repository: Path) -> Callable[..., DictConfig]:
    """Compose an entry point's configuration as its command line would, with all that it writes under a folder."""
    register_resolvers()

    def compose_entry_point(parent: Path, name: str, *overrides: str, run: str = "run") -> DictConfig:
        GlobalHydra.instance().clear()
        paths = {"run": parent / run, "logs": parent / "logs", "data": parent / "data"}
        with initialize_config_dir(str(repository / "conf"), version_base="1.3"):
            config = compose(
                name,
                [*(f"paths.{key}={path}" for key, path in paths.items()), *overrides],
                return_hydra_config=True,
            )
        HydraConfig.instance().set_config(config)
        with open_dict(config):
            del config["hydra"]
        return config

    return compose_entry_point


@pytest.fixture
def composed(composed_in: Callable[..., DictConfig], tmp_path: Path) -> Callable[..., DictConfig]:
    """The same under ``tmp_path``."""
    return functools.partial(composed_in, tmp_path)


@pytest.fixture(scope="session")
def command(repository: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Call a script with a command line as a process of its own would, but in this process: no second import."""

    def call(script: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        GlobalHydra.instance().clear()
        out, err, status = io.StringIO(), io.StringIO(), 0
        handlers = list(logging.root.handlers)
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            patch.setattr(sys, "argv", [script, *arguments])
            patch.chdir(cwd)
            try:
                runpy.run_path(str(repository / "src" / script), run_name="__main__")
            except SystemExit as end:
                status = int(end.code or 0)
        logging.root.handlers[:] = handlers  # Hydra's own write to a stream that has ended
        return subprocess.CompletedProcess([script, *arguments], status, out.getvalue(), err.getvalue())

    return call


VOC_LISTS = {
    "train": ["2007_000001", "2007_000002"],
    "val": ["2008_000003"],
    "trainval": ["2007_000001", "2007_000002", "2008_000003"],
    "trainaug": ["2007_000001", "2007_000002", "2009_000004"],
    "trainval_aug": ["2007_000001", "2007_000002", "2008_000003", "2009_000004"],
}


def write_picture(path: Path, size: tuple[int, int], seed: int) -> None:
    """Write an RGB picture of height x width pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_ids(path: Path, ids: np.ndarray, palette: Sequence[int] | None) -> None:
    """Write label ids as a grayscale PNG or, with 768 palette entries, as a palette PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(ids.astype(np.uint8))
    if palette is not None:
        picture.putpalette(list(palette))
    picture.save(path)


@pytest.fixture
def voc_folder(tmp_path: Path) -> Path:
    """A devkit with four pictures of 24x32 pixels; masks have an object, a border of 255 and background."""
    folder = tmp_path / "VOCdevkit" / "VOC2012"
    lists = folder / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for split, names in VOC_LISTS.items():
        (lists / f"{split}.txt").write_text("\n".join(names) + "\n")
    for seed, name in enumerate(VOC_LISTS["trainval_aug"]):
        write_picture(folder / "JPEGImages" / f"{name}.jpg", (24, 32), seed)
        ids = np.zeros((24, 32), dtype=np.uint8)
        ids[4:16, 6:20] = 255
        ids[6:14, 8:18] = 15
        if name in VOC_LISTS["trainval"]:
            write_ids(folder / "SegmentationClass" / f"{name}.png", ids, VOC_2012.png_palette())
        ids[ids == 255] = 0
        write_ids(folder / "SegmentationClassAug" / f"{name}.png", ids, None)
    return folder


@pytest.fixture
def camvid_folder(tmp_path: Path) -> Path:
    """The layout images/<split> + masks/<split> with three training and two validation frames."""
    folder = tmp_path / "camvid"
    for split, count in (("train", 3), ("val", 2)):
        for index in range(count):
            name = f"{split}_{index:03d}"
            write_picture(folder / "images" / split / f"{name}.jpg", (36, 48), index + 10 * (split == "val"))
            ids = np.arange(36 * 48).reshape(36, 48) // 150  # 0 .. 11
            write_ids(folder / "masks" / split / f"{name}.png", ids, None)
    return folder


@pytest.fixture
def cityscapes_folder(tmp_path: Path) -> Path:
    """Two training frames of one city and one validation frame of another, 32x64 pixels, with every label id."""
    folder = tmp_path / "cityscapes"
    frames = (
        ("train", "aachen", "000000_000019"),
        ("train", "aachen", "000001_000019"),
        ("val", "lindau", "000000_000019"),
    )
    for seed, (split, city, frame) in enumerate(frames):
        name = f"{city}_{frame}"
        write_picture(folder / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", (32, 64), seed)
        ids = np.arange(32 * 64).reshape(32, 64) // 60 % 34
        write_ids(folder / "gtFine" / split / city / f"{name}_gtFine_labelIds.png", ids, None)
    return folder


COCO_IDS = {17: "cat", 18: "dog"}


@pytest.fixture
def coco_folder(tmp_path: Path) -> Path:
    """COCO with three training images and two of validation, 40x60 pixels: a cat, and a dog partly before it."""
    folder = tmp_path / "coco"
    outlines = {17: [2, 2, 42, 2, 42, 34, 2, 34], 18: [30, 4, 58, 4, 58, 39, 30, 39]}
    for first, part, count in ((0, "train2017", 3), (100, "val2017", 2)):
        names = [f"{part[:5]}_{index:012d}.jpg" for index in range(count)]
        for seed, name in enumerate(names, start=first):
            write_picture(folder / part / name, (40, 60), seed)
        objects = [(image, *each) for image in range(count) for each in outlines.items()]
        content = {
            "images": [{"id": n, "file_name": name, "height": 40, "width": 60} for n, name in enumerate(names)],
            "categories": [{"id": number, "name": name} for number, name in COCO_IDS.items()],
            "annotations": [
                {"image_id": image, "category_id": number, "segmentation": [corners], "area": 1200.0}
                for image, number, corners in objects
            ],
        }
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / "annotations" / f"instances_{part}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.fixture
def ade20k_folder(tmp_path: Path) -> Path:
    """ADE20K with three training images and two of validation, 24x38 pixels, whose masks have every id."""
    folder = tmp_path / "ADEChallengeData2016"
    for part, stem, indices in (("training", "train", range(3)), ("validation", "val", range(3, 5))):
        for index in indices:
            name = f"ADE_{stem}_{index:08d}"
            write_picture(folder / "images" / part / f"{name}.jpg", (24, 38), index)
            write_ids(folder / "annotations" / part / f"{name}.png", np.arange(912).reshape(24, 38) % 151, None)
    rows = ["Idx\tRatio\tTrain\tVal\tName", *(f"{number}\t0.1\t10\t2\tthing {number}" for number in range(1, 151))]
    (folder / "objectInfo150.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def own_folder(tmp_path: Path) -> Path:
    """Six images of a user, 40x56 pixels, with masks of colors, and their description."""
    folder = tmp_path / "own images"
    colors = np.array([(0, 0, 0), (200, 30, 30), (30, 30, 200)], np.uint8)
    for index in range(6):
        write_picture(folder / "photos" / f"{index}.jpg", (40, 56), index)
        ids = np.add.outer(np.arange(40) // 14, np.arange(56) // 20) % 3
        (folder / "painted").mkdir(exist_ok=True)
        Image.fromarray(colors[ids]).save(folder / "painted" / f"{index}.png")
    lines = [
        "images: photos/{name}.jpg",
        "masks: painted/{name}.png",
        "classes: {nothing: '#000000', cup: [200, 30, 30], plate: [30, 30, 200]}",
        "splits: {train: 0.7, val: 0.3}",
    ]
    (folder / "atrous.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def write_voc2010(folder: Path, lists: Mapping[str, Sequence[str]], size: tuple[int, int]) -> None:
    """Write pictures of height x width pixels and the lists of a VOC 2010 that has no masks of its own."""
    devkit = folder / "VOCdevkit" / "VOC2010"
    (devkit / "ImageSets" / "Main").mkdir(parents=True)
    for number, (split, names) in enumerate(lists.items()):
        (devkit / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
        for seed, name in enumerate(names, start=100 * number):
            write_picture(devkit / "JPEGImages" / f"{name}.jpg", size, seed)


@pytest.fixture
def context_folder(tmp_path: Path) -> Path:
    """PASCAL-Context with two training images and a validation image, 24x32 pixels, whose maps have every id to 459."""
    folder = tmp_path / "pascal_context"
    lists = {"train": ["2008_000001", "2008_000002"], "val": ["2009_000003"]}
    write_voc2010(folder, lists, (24, 32))
    (folder / "trainval").mkdir()
    ids = (np.arange(24 * 32).reshape(24, 32) * 460 // (24 * 32)).astype(np.uint16)
    for name in (*lists["train"], *lists["val"]):
        savemat(folder / "trainval" / f"{name}.mat", {"LabelMap": ids}, do_compression=True)
    return folder


def write_objects(path: Path, objects: Sequence[tuple[str, np.ndarray, Mapping[str, np.ndarray]]]) -> None:
    """Write an annotation of Pascal-Part: class, mask and parts of each object."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = np.empty((1, len(objects)), dtype=[(name, object) for name in ("class", "class_ind", "mask", "parts")])
    for index, (kind, mask, parts) in enumerate(objects):
        shape = (1, len(parts)) if parts else (0, 0)
        part_table = np.empty(shape, dtype=[("part_name", object), ("mask", object)])
        for place, (name, inside) in enumerate(parts.items()):
            part_table[0, place] = (name, inside.astype(np.uint8))
        table[0, index] = (kind, 15.0 if kind == "person" else 1.0, mask.astype(np.uint8), part_table)
    savemat(path, {"anno": {"imname": path.stem, "objects": table}}, do_compression=True)


def box(top: int, bottom: int, left: int, right: int) -> np.ndarray:
    """A mask of 24x32 pixels with a rectangle in it."""
    mask = np.zeros((24, 32), dtype=np.uint8)
    mask[top:bottom, left:right] = 1
    return mask


@pytest.fixture
def person_part_folder(tmp_path: Path) -> Path:
    """Pascal-Part with two training images and two of validation, 24x32 pixels; one of each has persons."""
    folder = tmp_path / "person_part"
    write_voc2010(folder, {"train": ["2008_000001", "2008_000002"], "val": ["2009_000003", "2009_000004"]}, (24, 32))
    first = {"head": box(2, 8, 4, 12), "hair": box(0, 3, 4, 12), "torso": box(8, 16, 4, 12), "ruleg": box(16, 20, 4, 8)}
    second = {"neck": box(6, 8, 10, 20), "llarm": box(8, 12, 10, 14), "lhand": box(12, 14, 10, 14)}
    third = {"luarm": box(4, 10, 2, 6), "lfoot": box(20, 24, 2, 6), "mouth": box(2, 3, 2, 4)}
    car = ("car", box(10, 24, 16, 32), {"wheel_1": box(20, 24, 18, 22)})
    chair = ("chair", box(10, 24, 0, 8), {})
    annotations = {
        "2008_000001": [("person", box(0, 24, 4, 14), first), ("person", box(6, 24, 10, 20), second)],
        "2008_000002": [car, chair],
        "2009_000003": [chair, ("person", box(2, 24, 2, 8), third), car],
        "2009_000004": [chair],
    }
    for name, objects in annotations.items():
        write_objects(folder / "Annotations_Part" / f"{name}.mat", objects)
    return folder
