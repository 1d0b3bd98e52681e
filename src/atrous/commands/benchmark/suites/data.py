"""From files to training samples on one core: ours, with and without the cache, and what others do."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table
from torchvision import datasets, tv_tensors
from torchvision.transforms import v2

from atrous.data.augment import Augmentation
from atrous.data.augment.naive import naive_chain
from atrous.data.augment.random_scale_crop import MEAN_COLOR
from atrous.data.decoding import decode_image
from atrous.data.loading.cache import CachedDataset
from atrous.data.sets import VOC2012, Cityscapes
from atrous.data.sets.files import ImageMaskFiles
from atrous.errors import AtrousError, require_range
from atrous.terminal import track

Contestants = dict[str, Callable[[int], object]]
_OURS, _CACHED = "ours", "ours, cache"
_SCALES = (0.5, 2.0)
_ImageNet = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


def run(
    console: Console,
    *,
    voc: str | None = None,
    cityscapes: str | None = None,
    crops: Sequence[int] = (513, 769),
    sizes: Sequence[Sequence[int]] = ((375, 500), (1024, 2048)),
    images: int = 12,
    repetitions: int = 9,
) -> dict[str, Any]:
    """Time all ways in turn and print a table.

    Every way reads an image and its mask from files, scales, crops and flips at random, and ends in tensors. The peers
    normalize too, as they have to; ours leaves it to the network's device. A repetition takes each image once in every
    way; the figure is the median of the repetitions' means of processor time of the calling thread.

    Args:
        console: Where the tables go.
        voc: Folder of VOC 2012; ``None`` for generated JPEGs of ``sizes[0]`` in its layout.
        cityscapes: Folder of Cityscapes; ``None`` for generated PNGs of ``sizes[1]`` in its layout.
        crops: Crop sizes for the two.
        sizes: Height and width of the generated images of the two.
        images: How many images.
        repetitions: How often the ways take turns.

    Returns:
        For each data set milliseconds by way, ratios to the peers, and where the time of ours goes, for JSON.

    Raises:
        AtrousError: A value is impossible, or a data set is not there.
    """
    require_range("data.images", images, at_least=1)
    require_range("data.repetitions", repetitions, at_least=1)
    require_range("data.crops", crops, at_least=1)
    if len(crops) != 2 or len(sizes) != 2 or any(len(size) != 2 for size in sizes):
        raise AtrousError(
            "data.crops and data.sizes have an entry for VOC and one for Cityscapes; a size is two numbers"
        )
    threads = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            voc_root = Path(voc) if voc else _generate_voc(Path(folder), sizes[0], images)
            city_root = Path(cityscapes) if cityscapes else _generate_cityscapes(Path(folder), sizes[1], images)
            cases = (
                ("VOC", _VOC(voc_root, crops[0]), crops[0]),
                ("Cityscapes", _City(city_root, crops[1]), crops[1]),
            )
            rows = [
                _measure(console, name, case, crop, images, repetitions, Path(folder) / f"cache_{name}")
                for name, case, crop in cases
            ]
    finally:
        cv2.setNumThreads(threads[0])
        torch.set_num_threads(threads[1])
    _show(console, rows)
    libraries = ("albumentations", "torchvision", "pillow", "simplejpeg", "pyspng", "opencv-python-headless", "numpy")
    return {"suite": "data", "rows": rows, "versions": {name: version(name) for name in libraries}}


class _Case:
    """A data set, read by us and by others."""

    def __init__(self, dataset: ImageMaskFiles, torchvisions: Any, crop: int) -> None:
        self.dataset = dataset
        self._torchvisions = datasets.wrap_dataset_for_transforms_v2(torchvisions)
        self._chain = naive_chain(crop, scale=_SCALES)
        fill = {tv_tensors.Image: MEAN_COLOR, tv_tensors.Mask: 255, Image.Image: MEAN_COLOR}
        self._transforms = v2.Compose(
            [
                v2.RandomHorizontalFlip(0.5),
                v2.RandomCrop(crop, pad_if_needed=True, fill=fill),
                v2.ToImage(),
                v2.ToDtype({tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.int64, "others": None}, scale=True),
                v2.Normalize(**_ImageNet),
            ]
        )
        self._random = np.random.default_rng(0)

    def albumentations(self, index: int) -> object:
        """Pillow, and a chain of albumentations."""
        with Image.open(self.dataset.images[index]) as image, Image.open(self.dataset.masks[index]) as mask:
            pixels, ids = np.array(image.convert("RGB")), self._train_ids(np.array(mask))
        return self._chain(image=pixels, mask=ids)

    def torchvision(self, index: int) -> object:
        """Torchvision's data set and transforms; the scale is drawn as its references do."""
        image, mask = self._torchvisions[index]
        scale = self._random.uniform(*_SCALES)
        height, width = round(image.height * scale), round(image.width * scale)
        resized = v2.Resize([height, width], antialias=True)(image, mask)
        return self._transforms(*resized)

    def _train_ids(self, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return mask


class _VOC(_Case):
    def __init__(self, root: Path, crop: int) -> None:
        dataset = VOC2012("train", root=root)
        folder = dataset.images[0].parents[3]
        super().__init__(dataset, datasets.VOCSegmentation(folder, image_set="train"), crop)


class _City(_Case):
    def __init__(self, root: Path, crop: int) -> None:
        dataset = Cityscapes("train", root=root)
        folder = dataset.images[0].parents[3]
        theirs = datasets.Cityscapes(folder, split="train", target_type="semantic")
        super().__init__(dataset, theirs, crop)
        self._table = np.full(256, 255, dtype=np.uint8)
        self._table[list(dataset.label_space.raw_ids)] = np.arange(dataset.label_space.num_classes)

    def _train_ids(self, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        translated: NDArray[np.uint8] = self._table[mask]
        return translated


def _measure(
    console: Console, name: str, case: _Case, crop: int, images: int, repetitions: int, folder: Path
) -> dict[str, Any]:
    dataset, augment = case.dataset, Augmentation(crop, _SCALES)
    count = min(images, len(dataset))
    cached = CachedDataset(dataset, kind="disk", folder=folder, gigabytes=8)
    for index in range(count):
        cached[index]
    seed = iter(range(1 << 40))
    ways: Contestants = {
        "albumentations": case.albumentations,
        "torchvision": case.torchvision,
        _OURS: lambda index: augment(dataset[index], next(seed)),
        _CACHED: lambda index: augment(cached[index], next(seed)),
    }
    contents = {index: dataset.images[index].read_bytes() for index in range(count)}
    samples = {index: cached[index] for index in range(count)}
    parts: Contestants = {
        "read files": lambda index: (dataset.images[index].read_bytes(), dataset.masks[index].read_bytes()),
        "decode image": lambda index: decode_image(contents[index]),
        "read and decode mask": lambda index: dataset.mask(index),
        "augment": lambda index: augment(samples[index], next(seed)),
    }
    times: dict[str, list[float]] = {each: [] for each in (*ways, *parts)}
    for repetition in track(range(repetitions + 1), name, total=repetitions + 1, console=console, lines=1):
        for each, way in (*ways.items(), *parts.items()):
            milliseconds = _milliseconds(way, count)
            if repetition:  # the first one warms up
                times[each].append(milliseconds)
    medians = {each: statistics.median(measured) for each, measured in times.items()}
    height, width = dataset.image_size(0)
    return {
        "case": f"{name} {height}x{width} crop {crop}",
        "milliseconds": {each: medians[each] for each in ways},
        "parts": {each: medians[each] for each in parts},
        "ratios": {
            f"{mine} to {peer}": medians[peer] / medians[mine]
            for mine in (_OURS, _CACHED)
            for peer in ("albumentations", "torchvision")
        },
        "images": count,
    }


def _milliseconds(way: Callable[[int], object], count: int) -> float:
    """Mean processor time of a sample."""
    start = time.thread_time()
    for index in range(count):
        way(index)
    return (time.thread_time() - start) / count * 1000


def _show(console: Console, rows: Sequence[dict[str, Any]]) -> None:
    table = Table("images", "way", "ms a sample", "samples a second", "to albumentations", "to torchvision")
    table.title = "files to training samples, one core"
    for row in rows:
        times = row["milliseconds"]
        for way, milliseconds in times.items():
            ratios = [f"{times[peer] / milliseconds:.2f}x" for peer in ("albumentations", "torchvision")]
            table.add_row(row["case"], way, f"{milliseconds:.2f}", f"{1000 / milliseconds:.0f}", *ratios)
    console.print(table)
    parts = Table("images", *rows[0]["parts"], title="where the time of ours goes, ms a sample")
    for row in rows:
        parts.add_row(row["case"], *(f"{milliseconds:.2f}" for milliseconds in row["parts"].values()))
    console.print(parts)


def _picture(size: Sequence[int], seed: int) -> NDArray[np.uint8]:
    """Shades at several scales, which compress about as photographs do."""
    rng, height, width = np.random.default_rng(seed), size[0], size[1]
    pixels = np.zeros((height, width, 3), np.float32)
    for step, strength in ((64, 70), (16, 35), (4, 18), (1, 3)):
        coarse = rng.normal(0, strength, (height // step + 2, width // step + 2, 3)).astype(np.float32)
        pixels += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(pixels + 120, 0, 255).astype(np.uint8)


def _ids(size: Sequence[int], classes: int, seed: int) -> NDArray[np.uint8]:
    """Regions of classes with smooth borders."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((8, 12, classes)).astype(np.float32)
    shares = cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)
    return np.asarray(shares.argmax(axis=2), dtype=np.uint8)


def _generate_voc(folder: Path, size: Sequence[int], images: int) -> Path:
    place = folder / "VOCdevkit" / "VOC2012"
    names = [f"2007_{index:06d}" for index in range(images)]
    for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (place / part).mkdir(parents=True)
    for seed, name in enumerate(names):
        Image.fromarray(_picture(size, seed)).save(place / "JPEGImages" / f"{name}.jpg", quality=95)
        mask = Image.fromarray(_ids(size, 21, seed))
        mask.putpalette([value for value in range(256) for _ in range(3)])
        mask.save(place / "SegmentationClass" / f"{name}.png")
    (place / "ImageSets" / "Segmentation" / "train.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    return folder / "VOCdevkit"


def _generate_cityscapes(folder: Path, size: Sequence[int], images: int) -> Path:
    place = folder / "cityscapes"
    for part in ("leftImg8bit/train/aachen", "gtFine/train/aachen"):
        (place / part).mkdir(parents=True)
    for seed in range(images):
        name = f"aachen_{seed:06d}_000019"
        Image.fromarray(_picture(size, seed)).save(place / "leftImg8bit/train/aachen" / f"{name}_leftImg8bit.png")
        Image.fromarray(_ids(size, 34, seed)).save(place / "gtFine/train/aachen" / f"{name}_gtFine_labelIds.png")
    return place
