"""The one-step transform against resizing the whole image, padding and cropping."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from atrous.data.augment import random_scale_crop
from atrous.data.augment.random_scale_crop import (
    MEAN_COLOR,
    RandomScaleCrop,
    Span,
    Window,
    resize_mask_window,
    resize_window,
)
from atrous.errors import AtrousError

ALIGNMENT = 1 / 32  # source pixels


def two_steps(image: NDArray[np.uint8], window: Window) -> NDArray[np.uint8]:
    """Resize everything, pad at the bottom and right, crop, mirror."""
    rows, columns, (height, width), flip = window
    scaled = cv2.resize(image, (columns.scaled, rows.scaled), interpolation=cv2.INTER_LINEAR)
    padded = np.empty((max(rows.scaled, height), max(columns.scaled, width), 3), dtype=np.uint8)
    padded[:] = MEAN_COLOR
    padded[: rows.scaled, : columns.scaled] = scaled
    cropped = padded[rows.start : rows.start + height, columns.start : columns.start + width]
    return cropped[:, ::-1] if flip else cropped


def two_steps_mask(mask: NDArray[np.uint8], window: Window) -> NDArray[np.uint8]:
    """The same for labels, one pixel at a time: the source pixel that holds the center of the scaled pixel."""
    rows, columns, (height, width), flip = window
    result = np.full((height, width), 255, dtype=np.uint8)
    for row in range(min(height, rows.scaled)):
        for column in range(min(width, columns.scaled)):
            source_row = int((rows.start + row + 0.5) / rows.scaled * rows.source + 1e-9)
            source_column = int((columns.start + column + 0.5) / columns.scaled * columns.source + 1e-9)
            result[row, column] = mask[source_row, source_column]
    return result[:, ::-1] if flip else result


def random_window(rng: random.Random, size: tuple[int, int], crop: tuple[int, int]) -> Window:
    factor = rng.uniform(0.5, 2.0)
    spans = []
    for side, kept in zip(size, crop, strict=True):
        scaled = round(side * factor)
        spans.append(Span(side, scaled, rng.randint(0, max(0, scaled - kept)), min(kept, scaled)))
    return Window(spans[0], spans[1], crop, rng.random() < 0.5)


def smooth_noise(seed: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    return np.asarray(cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 1.5), None, 0, 255, cv2.NORM_MINMAX), np.uint8)


def largest_step(image: NDArray[np.uint8]) -> float:
    """Largest difference of neighbors, summed over both directions: what a shift by a pixel can change."""
    values = image.astype(float)
    return float(sum(np.abs(np.diff(values, axis=axis)).max() for axis in (0, 1)))


@pytest.mark.parametrize("size", [(375, 500), (97, 61), (64, 64), (333, 401)], ids=str)
def test_image_equals_two_steps(size: tuple[int, int]) -> None:
    rng = random.Random(0)
    image = smooth_noise(1, size)
    # bilinear values change by at most the largest step per pixel; both ways of computing round
    tolerance = ALIGNMENT * largest_step(image) + 1.5
    differences = []
    for _ in range(60):
        window = random_window(rng, size, (rng.randint(20, 300), rng.randint(20, 300)))
        ours = resize_window(image, window, fill=MEAN_COLOR)
        theirs = two_steps(image, window)
        assert ours.shape == theirs.shape
        difference = np.abs(ours.astype(int) - theirs)
        assert difference.max() <= tolerance, window
        differences.append(difference.mean())
    assert np.mean(differences) < 0.5


@pytest.mark.parametrize("size", [(41, 57), (30, 30)], ids=str)
def test_mask_equals_two_steps_in_every_pixel(size: tuple[int, int]) -> None:
    rng = random.Random(0)
    mask = np.random.default_rng(2).integers(0, 21, size, dtype=np.uint8)
    for _ in range(60):
        window = random_window(rng, size, (rng.randint(5, 70), rng.randint(5, 70)))
        assert np.array_equal(resize_mask_window(mask, window, fill=255), two_steps_mask(mask, window)), window


def test_mask_equals_the_pixel_center_rule_of_opencv() -> None:
    mask = np.random.default_rng(2).integers(0, 21, (375, 500), dtype=np.uint8)
    for factor in (0.5, 0.77, 1.0, 1.3, 2.0):
        height, width = round(375 * factor), round(500 * factor)
        whole = Window(Span(375, height, 0, height), Span(500, width, 0, width), (height, width))
        theirs = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        # OpenCV computes positions with 16 bits: centers on the edge of two pixels may fall to the other side
        assert (resize_mask_window(mask, whole, fill=255) != theirs).mean() < 0.01


def test_warp_takes_over_where_no_position_is_aligned(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    warp = random_scale_crop._warp

    def counted(*args: Any) -> NDArray[np.uint8]:
        calls.append(1)
        return warp(*args)

    monkeypatch.setattr(random_scale_crop, "_warp", counted)
    monkeypatch.setattr(random_scale_crop, "_REACH", 1)
    rng = random.Random(3)
    image = smooth_noise(1, (211, 307))
    for _ in range(40):
        window = random_window(rng, (211, 307), (100, 90))
        ours = resize_window(image, window, fill=MEAN_COLOR)
        difference = np.abs(ours.astype(int) - two_steps(image, window))
        assert difference.max() <= ALIGNMENT * largest_step(image) + 1.5
    assert len(calls) > 20


def test_image_and_mask_stay_aligned() -> None:
    # value = position: the image has the exact position of every result pixel, the mask the nearest label
    ramp = np.broadcast_to(np.arange(250, dtype=np.uint8), (40, 250))
    image, mask = np.ascontiguousarray(np.stack([ramp] * 3, axis=-1)), np.ascontiguousarray(ramp)
    rng = random.Random(5)
    for _ in range(50):
        window = random_window(rng, (40, 250), (33, 129))
        values = resize_window(image, window, fill=(255, 255, 255))[..., 0].astype(int)
        labels = resize_mask_window(mask, window, fill=255).astype(int)
        difference = values - labels
        assert np.abs(difference).max() <= 1
        if window.columns.scaled > 300:
            assert abs(difference.mean()) < 0.2


def apply(transform: RandomScaleCrop, image: NDArray[np.uint8], mask: NDArray[np.uint8], seed: int) -> dict[str, Any]:
    transform.set_random_seed(seed)
    result: dict[str, Any] = transform(image=image, mask=mask)
    return result


@pytest.mark.parametrize("crop", [33, (17, 49)])
@pytest.mark.parametrize("size", [(20, 70), (70, 20), (1, 1), (33, 33)], ids=str)
def test_result_has_the_size_of_the_crop(crop: int | tuple[int, int], size: tuple[int, int]) -> None:
    image, mask = smooth_noise(0, size), np.zeros(size, dtype=np.uint8)
    for seed in range(20):
        result = apply(RandomScaleCrop(crop, flip=0.5), image, mask, seed)
        expected = (33, 33) if crop == 33 else crop
        assert result["image"].shape == (*expected, 3)
        assert result["mask"].shape == expected
        assert result["image"].dtype == result["mask"].dtype == np.uint8


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_padding_is_mean_color_and_255_at_the_bottom_and_right_before_mirroring(flip: float) -> None:
    image, mask = np.zeros((10, 12, 3), dtype=np.uint8), np.zeros((10, 12), dtype=np.uint8)
    result = apply(RandomScaleCrop(20, (1, 1), flip=flip, pad_value=(1, 2, 3)), image, mask, 0)
    padded = np.ones((20, 20), dtype=bool)
    padded[:10, :12] = False
    if flip:
        padded = padded[:, ::-1]
    assert (result["image"][padded] == (1, 2, 3)).all()
    assert (result["image"][~padded] == 0).all()
    assert np.array_equal(result["mask"] == 255, padded)


def test_every_position_of_the_crop_is_equally_likely() -> None:
    ids = np.arange(64, dtype=np.uint8).reshape(8, 8)
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    transform = RandomScaleCrop(6, (1, 1))
    transform.set_random_seed(0)
    corners = Counter(int(transform(image=image, mask=ids)["mask"][0, 0]) for _ in range(3600))
    assert set(corners) == {row * 8 + column for row in range(3) for column in range(3)}
    assert all(320 < count < 480 for count in corners.values())  # 400 expected, 4 standard deviations


def drawn_factors(transform: RandomScaleCrop, count: int) -> list[float]:
    transform.set_random_seed(0)
    windows = (transform.get_params_dependent_on_data({"shape": (1000, 1000, 3)}, {})["window"] for _ in range(count))
    return [window.rows.scaled / 1000 for window in windows]


def test_scale_factors_fill_the_range_evenly() -> None:
    factors = np.array(drawn_factors(RandomScaleCrop(10, (0.5, 2.0)), 3000))
    assert 0.5 <= factors.min() < 0.51
    assert 1.99 < factors.max() <= 2.0
    assert np.allclose(np.histogram(factors, 5, (0.5, 2.0))[0], 600, atol=90)


@pytest.mark.parametrize(
    ("scale", "expected"), [((0.5, 2.0), [0.5, 0.75, 1, 1.25, 1.5, 1.75, 2]), ((0.5, 1.5), [0.5, 0.75, 1, 1.25, 1.5])]
)
def test_steps_of_the_papers(scale: tuple[float, float], expected: list[float]) -> None:
    counts = Counter(drawn_factors(RandomScaleCrop(10, scale, step=0.25), 1400))
    assert sorted(counts) == expected
    assert min(counts.values()) > 0.7 * 1400 / len(expected)


def test_flip_mirrors_image_and_mask_together_at_its_rate() -> None:
    mask = np.broadcast_to(np.arange(9, dtype=np.uint8), (9, 9)).copy()
    image = np.stack([mask] * 3, axis=-1)
    transform = RandomScaleCrop(9, (1, 1), flip=0.25)
    transform.set_random_seed(0)
    mirrored = 0
    for _ in range(800):
        result = transform(image=image, mask=mask)
        assert np.array_equal(result["image"][..., 0], result["mask"])
        mirrored += int(result["mask"][0, 0] == 8)
    assert 150 < mirrored < 250


def test_image_and_mask_given_are_left_alone() -> None:
    for size in ((50, 50), (9, 9)):
        image, mask = smooth_noise(0, size), np.zeros(size, dtype=np.uint8)
        before = image.copy()
        for scale in ((1.0, 1.0), (0.5, 2.0)):
            result = apply(RandomScaleCrop(20, scale, flip=0.5), image, mask, 3)
            result["image"][:] = 7
            result["mask"][:] = 7
        assert np.array_equal(image, before)
        assert not mask.any()


def background_share(crop: NDArray[np.uint8]) -> float:
    counts = np.bincount(crop[crop != 255], minlength=2)
    return float(counts.max() / counts.sum())


def test_crops_of_one_class_are_drawn_again() -> None:
    image, mask = np.zeros((200, 200, 3), dtype=np.uint8), np.zeros((200, 200), dtype=np.uint8)
    mask[:, 100:130] = 1
    plain, limited = RandomScaleCrop(40, (1, 1)), RandomScaleCrop(40, (1, 1), max_class_share=0.75)
    too_much = [
        sum(background_share(apply(transform, image, mask, seed)["mask"]) > 0.75 for seed in range(200))
        for transform in (plain, limited)
    ]
    assert too_much[0] > 100
    assert too_much[1] < 10


def test_ignored_pixels_do_not_count_for_the_share() -> None:
    image, mask = np.zeros((100, 100, 3), dtype=np.uint8), np.full((100, 100), 255, dtype=np.uint8)
    mask[40:50, :50] = 0
    mask[40:50, 50:] = 1
    transform = RandomScaleCrop(60, (1, 1), max_class_share=0.9)
    for seed in range(30):
        assert set(np.unique(apply(transform, image, mask, seed)["mask"])) == {0, 1, 255}


def test_share_limit_gives_up_where_there_is_only_one_class() -> None:
    image, mask = np.zeros((50, 50, 3), dtype=np.uint8), np.zeros((50, 50), dtype=np.uint8)
    assert not apply(RandomScaleCrop(20, max_class_share=0.5), image, mask, 0)["mask"].all()


def test_rare_classes_are_centered_as_often_as_frequent_ones() -> None:
    image, mask = np.zeros((300, 300, 3), dtype=np.uint8), np.zeros((300, 300), dtype=np.uint8)
    mask[100:200, 150] = 7  # a pole: 100 of 90,000 pixels
    mask[:10] = 255
    uniform, centered = RandomScaleCrop(21), RandomScaleCrop(21, rare_class_probability=1.0)
    seen = [sum(apply(t, image, mask, seed)["mask"][10, 10] == 7 for seed in range(300)) for t in (uniform, centered)]
    assert seen[0] < 20
    # half of the crops; at scales below 1 a line of one pixel may fall between two centers
    assert 90 < seen[1] < 180


@pytest.mark.parametrize("value", [0, 255])
def test_rare_class_rule_copes_with_masks_of_one_class_or_none(value: int) -> None:
    image, mask = np.zeros((30, 30, 3), dtype=np.uint8), np.full((30, 30), value, dtype=np.uint8)
    assert apply(RandomScaleCrop(20, rare_class_probability=1.0), image, mask, 0)["mask"].shape == (20, 20)


def test_works_inside_a_composition_of_albumentations() -> None:
    import albumentations

    transform = albumentations.Compose([RandomScaleCrop(20, flip=0.5), albumentations.VerticalFlip(p=1)], seed=0)
    result = transform(image=smooth_noise(0, (40, 40)), mask=np.zeros((40, 40), dtype=np.uint8))
    assert result["image"].shape == (20, 20, 3)
    assert transform(image=smooth_noise(0, (40, 40)))["image"].shape == (20, 20, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomScaleCrop(0), "crop_size must be a positive whole number"),
        (lambda: RandomScaleCrop((3, 4, 5)), r"crop_size must be .*\(3, 4, 5\)"),
        (lambda: RandomScaleCrop(9, (2.0, 0.5)), r"scale must be \[smallest, largest\].*\[2\.0, 0\.5\]"),
        (lambda: RandomScaleCrop(9, (0.0, 0.5)), "0 < smallest"),
        (lambda: RandomScaleCrop(9, (1.0,)), r"scale must be"),
        (lambda: RandomScaleCrop(9, step=0), "step must be greater than 0"),
        (lambda: RandomScaleCrop(9, flip=1.5), r"flip must be a probability in 0\.\.1, got 1\.5"),
        (lambda: RandomScaleCrop(9, pad_value=(0, 0, 300)), r"pad_value .*\[0, 0, 300\]"),
        (lambda: RandomScaleCrop(9, max_class_share=0), "max_class_share must lie"),
        (lambda: RandomScaleCrop(9, rare_class_probability=-1), "rare_class_probability must lie"),
    ],
)
def test_impossible_values_are_refused(make: Callable[[], RandomScaleCrop], message: str) -> None:
    with pytest.raises(AtrousError, match=message):
        make()
