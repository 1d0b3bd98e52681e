"""Random scale and random crop in one step that only resizes the pixels that are kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import albumentations
import cv2
import numpy as np
from albumentations.core.type_definitions import Targets
from numpy.typing import NDArray

from atrous.errors import AtrousError

MEAN_COLOR = (124, 116, 104)
"""Mean RGB of ImageNet in 0..255; the papers pad with the mean, which is zero after normalization."""

_ALIGNMENT = 32  # positions closer than 1/32 source pixel count as the same when the part to resize is chosen
_REACH = 256  # scaled pixels; how far outside the kept window to look for an aligned position
_CROP_TRIALS = 10
_MOST_FACTORS = 1000
_LARGEST_FACTOR = 1000
_SHARE_POINTS = 64  # points per side at which the share of a class is measured


class Span(NamedTuple):
    """What is kept along one axis.

    Attributes:
        source: Length of the axis in the input image.
        scaled: Length of the axis after scaling.
        start: First kept position after scaling.
        kept: Number of kept positions; less than the crop where the scaled image is smaller.
    """

    source: int
    scaled: int
    start: int
    kept: int


class Window(NamedTuple):
    """The part of the scaled image that is kept, and what happens to it then.

    Attributes:
        rows: Vertical span.
        columns: Horizontal span.
        crop: Height and width of the result, to which the part is padded at the bottom and right.
        flip: Whether the padded result is mirrored left to right.
    """

    rows: Span
    columns: Span
    crop: tuple[int, int]
    flip: bool = False


def resize_window(image: NDArray[np.uint8], window: Window, *, fill: tuple[int, ...]) -> NDArray[np.uint8]:
    """Bilinear values of the window, as if the whole image were resized, padded, cropped and flipped.

    The center of pixel x of n scaled pixels lies at (x + 1/2) N / n - 1/2 of N source pixels, as in ``cv2.resize``. The
    window is widened to positions where scaled and source pixels share an edge, so that a plain resize of a part of the
    source samples the same places to within 1/32 source pixel; where there is none in reach, an affine warp does the
    work, which is exact but takes four times as long for the same pixels.

    Args:
        image: uint8 HxWxC.
        window: What to keep.
        fill: Value of the padding, one number per channel.

    Returns:
        uint8 array of the crop's size; a view of planes in memory, so making a tensor needs no further copy.
    """
    rows, columns = window.rows, window.columns
    if rows.scaled == rows.source and columns.scaled == columns.source:
        kept = image[rows.start : rows.start + rows.kept, columns.start : columns.start + columns.kept]
        return _finish(kept, window, fill)
    vertical, horizontal = _aligned(rows), _aligned(columns)
    if vertical is None or horizontal is None:
        return _finish(_warp(image, rows, columns), window, fill)
    part = image[vertical.source_start : vertical.source_stop, horizontal.source_start : horizontal.source_stop]
    wide = np.asarray(cv2.resize(part, (horizontal.length, vertical.length), interpolation=cv2.INTER_LINEAR), np.uint8)
    bottom, right = vertical.offset + rows.kept, horizontal.offset + columns.kept
    return _finish(wide[vertical.offset : bottom, horizontal.offset : right], window, fill)


def _finish(kept: NDArray[np.uint8], window: Window, fill: tuple[int, ...]) -> NDArray[np.uint8]:
    """Copy what is kept into one plane per channel, mirrored and padded as the window says."""
    (height, width), bottom, right = window.crop, window.rows.kept, window.columns.kept
    left = width - right if window.flip else 0
    planes = np.empty((kept.shape[2], height, width), dtype=np.uint8)
    inner = list(planes[:, :bottom, left : left + right])
    cv2.split(kept, inner)
    if window.flip:
        for plane in inner:
            cv2.flip(plane, 1, dst=plane)
    if bottom < height or right < width:
        for plane, value in zip(planes, fill, strict=True):
            plane[bottom:] = value
            plane[:bottom, :left] = value
            plane[:bottom, left + right :] = value
    return planes.transpose(1, 2, 0)


def resize_mask_window(mask: NDArray[np.uint8], window: Window, *, fill: int) -> NDArray[np.uint8]:
    """Nearest labels at the same pixel centers as ``resize_window``.

    Args:
        mask: uint8 HxW.
        window: What to keep.
        fill: Label of the padding.

    Returns:
        uint8 array of the crop's size.
    """
    rows, columns, (height, width), _ = window
    row_of, column_of = nearest(rows), nearest(columns)
    top, left = int(row_of[0]), int(column_of[0])
    part = mask[top : int(row_of[-1]) + 1, left : int(column_of[-1]) + 1]
    row_of, column_of = row_of - top, column_of - left
    # Whole rows are copied several times faster than single labels are picked, so columns are picked as rows of the
    # transpose. An axis that shrinks goes before the transposition, one that grows after it.
    if rows.scaled < rows.source:
        part = part.take(row_of, axis=0)
    kept = cv2.transpose(cv2.transpose(part).take(column_of[::-1] if window.flip else column_of, axis=0))
    if rows.scaled >= rows.source:
        kept = kept.take(row_of, axis=0)
    bottom, side = height - rows.kept, width - columns.kept
    if bottom or side:
        left, right = (side, 0) if window.flip else (0, side)
        kept = cv2.copyMakeBorder(kept, 0, bottom, left, right, cv2.BORDER_CONSTANT, value=(fill,))
    return np.asarray(kept, np.uint8)


def nearest(span: Span, *, every: int = 1) -> NDArray[np.intp]:
    """Source position that contains the center of each kept scaled pixel (or of each ``every``-th)."""
    # (x + 1/2) N / n in whole numbers
    odd = np.arange(2 * span.start + 1, 2 * (span.start + span.kept), 2 * every)
    return odd * span.source // (2 * span.scaled)


class _Aligned(NamedTuple):
    source_start: int
    source_stop: int
    offset: int
    length: int


def _aligned(span: Span) -> _Aligned | None:
    """Smallest widening of the span whose ends fall on edges of source pixels, or None where there is none in reach."""
    source, scaled, start, kept = span
    # the outermost half source pixel of a part has no neighbor to be mixed with, unless the image ends there as well
    margin = -(-scaled // (2 * source)) if scaled > source else 0
    first, last = max(start - margin, 0), min(start + kept + margin, scaled)
    left = _edge(range(first, max(first - _REACH, -1), -1), span)
    right = _edge(range(last, min(last + _REACH, scaled + 1)), span)
    if left is None or right is None:
        return None
    source_start = round(left * source / scaled)
    return _Aligned(source_start, max(round(right * source / scaled), source_start + 1), start - left, right - left)


def _edge(positions: range, span: Span) -> int | None:
    """First of the scaled positions that is close enough to an edge between source pixels."""
    source, scaled = span.source, span.scaled
    near = scaled // _ALIGNMENT
    for position in positions:
        beyond = position * source % scaled  # in units of 1/scaled source pixel
        if beyond <= near or beyond >= scaled - near:
            return position
    return None


def _warp(image: NDArray[np.uint8], rows: Span, columns: Span) -> NDArray[np.uint8]:
    vertical, horizontal = rows.source / rows.scaled, columns.source / columns.scaled
    to_source = np.array(
        [
            [horizontal, 0.0, (columns.start + 0.5) * horizontal - 0.5],
            [0.0, vertical, (rows.start + 0.5) * vertical - 0.5],
        ]
    )
    warped = cv2.warpAffine(
        image,
        to_source,
        (columns.kept, rows.kept),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(warped, dtype=np.uint8)


class RandomScaleCrop(albumentations.DualTransform):
    """Resize by a random factor, pad to the crop where the result is smaller, cut out a random crop, perhaps mirror it.

    The augmentation of every DeepLab paper (v2 §4.1, v3 §4.1), in one step that costs what the crop costs. As in the
    authors' code the image stays at the top left and the padding goes to the bottom and right (before mirroring); where
    the scaled image is larger than the crop, every position of the crop is equally likely.

    Args:
        crop_size: Height and width of the result, or one number for both; DeepLab takes a multiple of the output stride
            plus 1.
        scale: Smallest and largest factor; drawn uniformly.
        step: Draw from smallest, smallest + step, ... up to largest instead of any value between.
        flip: Probability of mirroring left to right.
        pad_value: RGB (0..255) of padding; its mask is 255.
        max_class_share: Draw the crop again, ten times at most, while one class covers more than this share (0..1] of
            its labeled pixels (measured on a grid of points) or nothing in it is labeled.
        rare_class_probability: Chance to center the crop on a random pixel of a class, drawn with equal chances from
            the classes in the mask, instead of a uniform crop.

    Raises:
        AtrousError: A value is outside its range.
    """

    _targets = (Targets.IMAGE, Targets.MASK)

    def __init__(
        self,
        crop_size: int | Sequence[int],
        scale: Sequence[float] = (0.5, 2.0),
        *,
        step: float | None = None,
        flip: float = 0.0,
        pad_value: Sequence[int] = MEAN_COLOR,
        max_class_share: float | None = None,
        rare_class_probability: float = 0.0,
    ) -> None:
        super().__init__(p=1.0)
        self.crop_size = _two_sizes(crop_size)
        self.scale = _scale_range(scale)
        self.step = step
        self.factors = _factors(self.scale, step)
        if not 0 <= flip <= 1:
            raise AtrousError(f"augment.flip must be a probability in 0..1, got {flip}")
        self.flip = flip
        if len(pad_value) != 3 or not all(0 <= value <= 255 for value in pad_value):
            raise AtrousError(f"augment.pad_value must be three numbers in 0..255 (RGB), got {list(pad_value)}")
        self.pad_value = tuple(round(value) for value in pad_value)
        if max_class_share is not None and not 0 < max_class_share <= 1:
            raise AtrousError(f"augment.max_class_share must lie in (0, 1] or be null, got {max_class_share}")
        self.max_class_share = max_class_share
        if not 0 <= rare_class_probability <= 1:
            raise AtrousError(f"augment.rare_class_probability must lie in 0..1, got {rare_class_probability}")
        self.rare_class_probability = rare_class_probability

    @property
    def targets(self) -> dict[str, Callable[..., NDArray[np.uint8]]]:
        """What albumentations calls for each part of a sample."""
        return {"image": self.apply, "mask": self.apply_to_mask}

    def apply(self, img: NDArray[np.uint8], window: Window, **_: Any) -> NDArray[np.uint8]:
        """Image of the window."""
        return resize_window(img, window, fill=self.pad_value)

    def apply_to_mask(self, mask: NDArray[np.uint8], window: Window, **_: Any) -> NDArray[np.uint8]:
        """Mask of the window."""
        return resize_mask_window(mask, window, fill=255)

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw the window."""
        height, width = params["shape"][:2]
        factor = self.py_random.choice(self.factors) if self.factors else self.py_random.uniform(*self.scale)
        window = self.draw_window((height, width), factor, data.get("mask"))
        return {"window": window._replace(flip=True) if self.py_random.random() < self.flip else window}

    def apply_with_params(self, params: dict[str, Any], *_: Any, **data: Any) -> dict[str, Any]:
        """Transform image and mask; unlike the base class, leave the memory layout to the next user."""
        window: Window = params["window"]
        if data.get("mask") is not None:
            data["mask"] = self.apply_to_mask(data["mask"], window)
        return {**data, "image": self.apply(data["image"], window)}

    def draw_window(self, size: tuple[int, int], factor: float, mask: NDArray[np.uint8] | None) -> Window:
        """Draw a crop of an image.

        Args:
            size: Height and width of the image.
            factor: Scale factor; the scaled sides are rounded to whole pixels.
            mask: uint8 HxW train ids, for the rules that depend on classes; None switches them off.
        """
        height, width = (max(1, math.floor(side * factor + 0.5)) for side in size)
        if mask is not None and self.rare_class_probability and self.py_random.random() < self.rare_class_probability:
            pixel = self._pixel_of_a_class(mask)
            if pixel is not None:
                row, column = pixel
                center = int((row + 0.5) * height / size[0]), int((column + 0.5) * width / size[1])
                return self._window(size, (height, width), center)
        window = self._window(size, (height, width), None)
        if mask is not None and self.max_class_share is not None:
            for _ in range(_CROP_TRIALS):
                if _largest_share(mask, window) <= self.max_class_share:
                    break
                window = self._window(size, (height, width), None)
        return window

    def _window(self, size: tuple[int, int], scaled: tuple[int, int], center: tuple[int, int] | None) -> Window:
        spans = []
        for axis, crop in enumerate(self.crop_size):
            room = max(0, scaled[axis] - crop)
            if center is None:
                start = int(self.py_random.random() * (room + 1))
            else:
                start = min(max(0, center[axis] - crop // 2), room)
            spans.append(Span(size[axis], scaled[axis], start, min(crop, scaled[axis])))
        return Window(spans[0], spans[1], self.crop_size)

    def _pixel_of_a_class(self, mask: NDArray[np.uint8]) -> tuple[int, int] | None:
        """Row and column of a random pixel of a random class, or None where nothing is labeled."""
        counts = cv2.calcHist([mask], [0], None, [256], [0, 256]).ravel()[:255]
        classes = np.flatnonzero(counts)
        if not len(classes):
            return None
        pixels = np.flatnonzero(mask == self.py_random.choice(classes.tolist()))
        row, column = divmod(int(pixels[self.py_random.randrange(len(pixels))]), mask.shape[1])
        return row, column


def _largest_share(mask: NDArray[np.uint8], window: Window) -> float:
    """Share of the most frequent class among labeled points of a grid over the window; 1 where nothing is labeled."""
    rows, columns = window.rows, window.columns
    row_of = nearest(rows, every=max(1, rows.kept // _SHARE_POINTS))
    column_of = nearest(columns, every=max(1, columns.kept // _SHARE_POINTS))
    counts = np.bincount(mask[row_of[:, None], column_of].ravel(), minlength=256)[:255]
    labeled = counts.sum()
    return float(counts.max() / labeled) if labeled else 1.0


def _two_sizes(crop_size: int | Sequence[int]) -> tuple[int, int]:
    sizes = (crop_size, crop_size) if isinstance(crop_size, int) else tuple(crop_size)
    if len(sizes) != 2 or not all(isinstance(side, int) and side > 0 for side in sizes):
        raise AtrousError(f"augment.crop_size must be a positive whole number or [height, width], got {crop_size}")
    return sizes[0], sizes[1]


def _scale_range(scale: Sequence[float]) -> tuple[float, float]:
    if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= _LARGEST_FACTOR:
        raise AtrousError(
            f"augment.scale must be [smallest, largest] with 0 < smallest <= largest <= {_LARGEST_FACTOR}, got "
            f"{list(scale)}"
        )
    return float(scale[0]), float(scale[1])


def _factors(scale: tuple[float, float], step: float | None) -> tuple[float, ...]:
    """The factors to draw from, or nothing if any value in the range will do."""
    if step is None:
        return ()
    if not step > 0:
        raise AtrousError(f"augment.step must be greater than 0 or null, got {step}")
    count = math.floor((scale[1] - scale[0]) / step + 1e-6) + 1
    if count > _MOST_FACTORS:
        raise AtrousError(f"augment.step={step} divides augment.scale={list(scale)} into {count} factors; give null")
    return tuple(scale[0] + index * step for index in range(count))
