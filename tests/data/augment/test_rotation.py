"""Rotation against turning every pixel's position by hand."""

from __future__ import annotations

import math
import random
from collections import Counter

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from atrous.data.augment import Augmentation, RandomScaleCrop
from atrous.data.augment.rotation import rotate
from atrous.data.dataset import RawSample
from atrous.errors import AtrousError

FILL = (10, 200, 90)


def sample(height: int, width: int) -> RawSample:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = np.asarray(cv2.GaussianBlur(noise, (0, 0), 1.0), np.uint8)
    return RawSample(image, rng.integers(0, 5, (height, width), dtype=np.uint8), "a")


def source(row: int, column: int, size: tuple[int, int], degrees: float) -> tuple[float, float]:
    """Where the pixel of the turned image comes from, one by one: counter-clockwise as seen, about the center."""
    middle = (size[0] - 1) / 2, (size[1] - 1) / 2
    x, y = column - middle[1], middle[0] - row  # y upwards
    back = math.radians(-degrees)
    x, y = x * math.cos(back) - y * math.sin(back), x * math.sin(back) + y * math.cos(back)
    return middle[0] - y, middle[1] + x


def color(image: NDArray[np.uint8], row: float, column: float) -> NDArray[np.float64]:
    """Bilinear value between four pixels, those outside having the fill."""
    top, left = math.floor(row), math.floor(column)
    total = np.zeros(3)
    for r, c in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        inside = 0 <= r < image.shape[0] and 0 <= c < image.shape[1]
        total += (1 - abs(row - r)) * (1 - abs(column - c)) * np.array(image[r, c] if inside else FILL, float)
    return total


@pytest.mark.parametrize("degrees", [10.0, -33.3, 90.0, 180.0, -0.4])
@pytest.mark.parametrize("size", [(13, 17), (12, 18)], ids=str)
def test_equals_turning_every_pixel_by_hand(size: tuple[int, int], degrees: float) -> None:
    raw = sample(*size)
    image, mask = rotate(raw.image, raw.mask, degrees, fill=FILL)
    steps = sum(np.abs(np.diff(raw.image.astype(float), axis=axis)).max() for axis in (0, 1))
    between = checked = 0
    for row in range(size[0]):
        for column in range(size[1]):
            at = source(row, column, size, degrees)
            inside = all(-1 < place < side for place, side in zip(at, size, strict=True))
            within = all(0 <= place <= side - 1 for place, side in zip(at, size, strict=True))
            tolerance = steps / 32 + 1 if within else 12  # OpenCV computes with 1/32 pixel; the fill is far away
            wanted = color(raw.image, *at) if inside else np.array(FILL)
            assert np.abs(image[row, column] - wanted).max() <= tolerance, (row, column)
            nearest = tuple(math.floor(place + 0.5) for place in at)
            if any(abs(place - math.floor(place) - 0.5) < 0.02 for place in at):
                between += 1  # on the edge of two labels: either is the nearest
                continue
            checked += 1
            known = all(0 <= place < side for place, side in zip(nearest, size, strict=True))
            assert mask[row, column] == (raw.mask[nearest] if known else 255), (row, column)
    assert checked > 5 * between


def test_a_mark_turns_counter_clockwise() -> None:
    image = np.zeros((21, 21, 3), dtype=np.uint8)
    image[10, 18] = 255  # to the right of the center
    turned, _ = rotate(image, image[..., 0].copy(), 90, fill=FILL)
    assert turned[2, 10].tolist() == [255, 255, 255]  # above it


def test_angles_fill_the_range_evenly_and_corners_are_void() -> None:
    """A needle through the center shows the angle; what turned in has the padding's color and no label."""
    image, mask = np.zeros((101, 101, 3), dtype=np.uint8), np.zeros((101, 101), dtype=np.uint8)
    mask[50, 60:] = 1
    augment = Augmentation(101, (1, 1), flip=0, rotation=30, pad_value=FILL)
    angles = []
    for seed in range(300):
        turned = augment(RawSample(image, mask, "a"), seed)
        rows, columns = np.nonzero(turned["mask"].numpy() == 1)
        angles.append(math.degrees(math.atan2(50 - rows.mean(), columns.mean() - 50)))
        void = turned["mask"].numpy() == 255
        if abs(angles[-1]) > 3:
            assert void[[0, 0, -1, -1], [0, -1, 0, -1]].all()
        assert (turned["image"].numpy()[:, cv2.erode(void.astype(np.uint8), np.ones((5, 5))) == 1].T == FILL).all()
    counts = Counter(int((angle + 30.5) // 12.2) for angle in angles)
    assert set(counts) == set(range(5))
    assert min(counts.values()) > 35  # 60 expected, 3.5 standard deviations


@pytest.mark.parametrize("rotation", [None, 0, 0.0])
def test_without_rotation_nothing_changes(rotation: float | None) -> None:
    """The samples of a seed are those of the scale and crop alone, with the same random numbers."""
    raw = sample(60, 80)
    options = {"flip": 0.5, "rare_class_probability": 0.5, "max_class_share": 0.9}
    augment, alone = Augmentation(65, rotation=rotation, **options), RandomScaleCrop(65, **options)
    for seed in range(20):
        alone.py_random = random.Random(seed)
        plain, augmented = alone(image=raw.image, mask=raw.mask), augment(raw, seed)
        assert np.array_equal(plain["image"], augmented["image"].permute(1, 2, 0).numpy())
        assert np.array_equal(plain["mask"], augmented["mask"].numpy())


def test_the_sample_on_disk_is_left_alone() -> None:
    raw = sample(30, 40)
    image, mask = raw.image.copy(), raw.mask.copy()
    raw.image.setflags(write=False)
    raw.mask.setflags(write=False)
    augmented = Augmentation(33, rotation=20)(raw, 1)
    augmented["image"].fill_(0)
    assert np.array_equal(raw.image, image)
    assert np.array_equal(raw.mask, mask)


@pytest.mark.parametrize("rotation", [-1, 181])
def test_impossible_angles_are_refused(rotation: float) -> None:
    with pytest.raises(AtrousError, match=rf"augment\.rotation must be an angle in 0\.\.180 .*got {rotation}"):
        Augmentation(33, rotation=rotation)
