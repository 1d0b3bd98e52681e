"""The embedded data set: repeatable, separate splits, and no way to tell the class but by form."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from atrous.data.baselines import score_baselines
from atrous.data.sets.shapes import LENGTHS, SHAPES, SMALLEST_SIZE, Shapes
from atrous.errors import AtrousError

PRINT_DIGEST = """
import hashlib
from atrous.data.sets.shapes import Shapes
digest = hashlib.sha256()
for split in ("train", "val", "test"):
    for index in (7, 0, 3):
        sample = Shapes(split, size=(96, 128), seed=5)[index]
        digest.update(sample.image.tobytes() + sample.mask.tobytes() + sample.name.encode())
print(digest.hexdigest())
"""


@pytest.fixture(scope="module")
def masks() -> NDArray[np.uint8]:
    dataset = Shapes("train", lengths={"train": 400})
    return np.stack([sample.mask for sample in dataset])


@pytest.mark.long
def test_a_fresh_process_draws_the_same_images_in_any_order(repository: Path) -> None:
    output = subprocess.run(
        [sys.executable, "-c", PRINT_DIGEST],
        env={**os.environ, "PYTHONPATH": str(repository / "src"), "PYTHONHASHSEED": "123"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    datasets = {split: Shapes(split, size=(96, 128), seed=5) for split in LENGTHS}
    drawn = {(split, index): datasets[split][index] for index in (0, 3, 7) for split in reversed(list(LENGTHS))}
    digest = hashlib.sha256()
    for split in LENGTHS:
        for index in (7, 0, 3):
            sample = drawn[split, index]
            digest.update(sample.image.tobytes() + sample.mask.tobytes() + sample.name.encode())
    assert output == digest.hexdigest()


def test_no_two_images_are_alike_within_or_across_splits_and_seeds() -> None:
    prints = [
        hashlib.sha256(sample.image.tobytes()).digest()
        for seed in (0, 1, 2**32)
        for split in LENGTHS
        for sample in Shapes(split, size=64, seed=seed, lengths=dict.fromkeys(LENGTHS, 20))
    ]
    assert len(set(prints)) == len(prints) == 180


def test_an_image_does_not_depend_on_the_length_of_the_split() -> None:
    short, long = Shapes("train", lengths={"train": 3}), Shapes("train", lengths={"train": 10**6})
    np.testing.assert_array_equal(short[2].image, long[2].image)
    np.testing.assert_array_equal(short[-1].image, short[2].image)


@pytest.mark.parametrize("size", [64, 160, (96, 200), [200, 96]])
def test_samples_have_the_promised_form(size: int | tuple[int, int]) -> None:
    height, width = (size, size) if isinstance(size, int) else size
    dataset = Shapes("val", size=size)
    for index in range(20):
        image, mask, name = dataset[index]
        assert image.shape == (height, width, 3)
        assert mask.shape == (height, width)
        assert image.dtype == mask.dtype == np.uint8
        assert image.flags.c_contiguous
        assert image.flags.writeable
        assert name == dataset.names[index]
        assert set(np.unique(mask)) <= {*range(SHAPES.num_classes), SHAPES.ignore_index}


def test_lengths_names_and_end() -> None:
    for split, length in LENGTHS.items():
        dataset = Shapes(split)
        assert len(dataset) == len(set(dataset.names)) == length
        assert dataset.split == split
    with pytest.raises(IndexError):
        Shapes("val")[LENGTHS["val"]]


def test_label_space_is_in_voc_style() -> None:
    assert SHAPES.num_classes == 8
    assert SHAPES.palette[1] == (
        128,
        0,
        0,
    )  # The PASCAL VOC color map: bits of the id, from the highest bit of R, G, B down.
    assert SHAPES.palette[6] == (0, 128, 128)
    everything = np.arange(SHAPES.num_classes, dtype=np.uint8)[None]
    np.testing.assert_array_equal(SHAPES.encode(everything, "here"), everything)


def test_every_class_occurs_often_but_none_is_everywhere(masks: NDArray[np.uint8]) -> None:
    share = np.bincount(masks.ravel(), minlength=256) / masks.size
    assert 0.5 < share[0] < 0.8
    assert share[1 : SHAPES.num_classes].min() > 0.005
    assert share[1 : SHAPES.num_classes].max() < 0.1
    shown = np.array([(masks == label).any(axis=(1, 2)).mean() for label in range(1, SHAPES.num_classes)])
    assert shown.min() > 0.2
    assert shown.max() < 0.9


def test_void_lies_along_outlines_and_is_thin(masks: NDArray[np.uint8]) -> None:
    void = masks == SHAPES.ignore_index
    assert 0.02 < void.mean() < 0.15
    assert np.mean(void.any(axis=(1, 2))) > 0.99
    # Where nothing else is near, the border is two pixels wide: almost no void pixel has only void around it.
    deep = np.stack([cv2.erode(plane.astype(np.uint8), np.ones((3, 3), np.uint8)) for plane in void[:100]])
    assert deep.sum() < 0.03 * void[:100].sum()


@pytest.mark.parametrize("label", ["square", "disk", "triangle", "star", "cross"])
def test_one_class_comes_at_many_scales(masks: NDArray[np.uint8], label: str) -> None:
    areas = np.count_nonzero(masks == SHAPES.classes.index(label), axis=(1, 2))
    areas = areas[areas > 0]
    assert np.quantile(areas, 0.9) > 0.12 * masks[0].size
    assert np.quantile(areas, 0.1) < 0.02 * masks[0].size


@pytest.mark.parametrize("label", ["ring", "pole"])
def test_thin_objects_survive_the_void_border(masks: NDArray[np.uint8], label: str) -> None:
    planes = masks == SHAPES.classes.index(label)
    areas = planes.sum(axis=(1, 2))
    assert np.median(areas[areas > 0]) > 200
    thick = np.stack([cv2.erode(plane.astype(np.uint8), np.ones((7, 7), np.uint8)) for plane in planes])
    assert np.count_nonzero(thick) < 1e-3 * np.count_nonzero(planes)  # Only where two of them cross.


def test_objects_overlap(masks: NDArray[np.uint8]) -> None:
    """Void between two objects, with no background close by, needs one object in front of another."""
    touching = 0
    for mask in masks:
        near = np.ones((5, 5), np.uint8)
        solid = np.where(mask == SHAPES.ignore_index, 0, mask)
        low = cv2.erode(np.where(solid == 0, 254, solid).astype(np.uint8), near)
        high = cv2.dilate(solid, near)
        background = cv2.dilate((mask == 0).astype(np.uint8), near)
        touching += bool(((low != high) & (high > 0) & (background == 0)).any())
    assert touching > 0.3 * len(masks)


def test_color_tells_next_to_nothing() -> None:
    scores = score_baselines(Shapes("train"), Shapes("val", lengths={"val": 100}), samples=200)
    assert scores["constant"].miou < 0.13
    assert scores["color"].miou < 0.15


def test_mean_color_is_alike_in_all_classes() -> None:
    dataset = Shapes("train", lengths={"train": 600}, size=80)
    sums, counts = np.zeros((256, 3)), np.zeros(256)
    for image, mask, _ in dataset:
        for label in np.unique(mask):
            sums[label] += image[mask == label].mean(axis=0)
            counts[label] += 1
    means = (sums / np.maximum(counts, 1)[:, None])[: SHAPES.num_classes]
    assert np.ptp(means, axis=0).max() < 20  # Of 255; the spread between images is about 60.


def test_outlines_match_mask() -> None:
    """The border of the mask is where the image changes: steps across void are well above those inside an area."""
    steps: dict[bool, list[float]] = {True: [], False: []}
    for image, mask, _ in Shapes("val", lengths={"val": 60}):
        change = np.abs(np.diff(image.astype(int), axis=1)).sum(axis=2)
        void = (mask == SHAPES.ignore_index)[:, :-1]
        steps[True].append(change[void].mean())
        steps[False].append(change[~void].mean())
    assert np.mean(steps[True]) > 2 * np.mean(steps[False])


def test_pickle_gives_the_same_data() -> None:
    dataset = Shapes("test", size=(64, 80), seed=3)
    copy = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(copy[4].image, dataset[4].image)
    np.testing.assert_array_equal(copy[4].mask, dataset[4].mask)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "trainval"}, "no split 'trainval'.*train, val, test"),
        ({"lengths": {"dev": 3}}, "no split 'dev'"),
        ({"lengths": {"train": 0}}, r"lengths\.train=0 must be at least 1"),
        ({"seed": -1}, r"seed=-1 must be at least 0"),
        ({"size": SMALLEST_SIZE - 1}, f"size {SMALLEST_SIZE - 1}.*at least {SMALLEST_SIZE}"),
        ({"size": (160, 160, 3)}, "size"),
    ],
)
def test_errors_name_the_value(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(AtrousError, match=message):
        Shapes(**arguments)
