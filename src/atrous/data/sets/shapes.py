"""``shapes``: an endless, embedded data set in which only shape tells the class.

Every image is drawn on demand, from (seed, split, index) alone. It asks of a model what the DeepLab
papers ask: one class at many scales, structures two or three pixels thin, textured surfaces, occlusion, and a void
border as in PASCAL VOC. Colors and textures of objects and background come from one distribution, so that neither
tells the class. Nor does a piece of the edge of a large object: square, cross, triangle and star share straight edges,
so that context is needed.

Drawing uses integer arithmetic wherever a rounding could differ from one machine to another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator, SeedSequence
from numpy.typing import NDArray

from atrous.data.dataset import RawSample, SegmentationDataset
from atrous.data.label_space import LabelSpace
from atrous.errors import AtrousError, require_range

SHAPES = LabelSpace(
    name="shapes",
    classes=("background", "disk", "square", "triangle", "star", "cross", "ring", "pole"),
    palette=(
        (0, 0, 0),
        (128, 0, 0),
        (0, 128, 0),
        (128, 128, 0),
        (0, 0, 128),
        (128, 0, 128),
        (0, 128, 128),
        (128, 128, 128),
    ),
    raw_ids=tuple(range(8)),
)
"""Eight classes in the colors of the first eight of PASCAL VOC; 255 is void."""

LENGTHS: Mapping[str, int] = {"train": 4000, "val": 200, "test": 200}
"""Images of each split, unless asked otherwise."""

SMALLEST_SIZE = 64
"""Shortest image side, in pixels, on which the objects keep their form."""

_RING = SHAPES.classes.index("ring")
_POLE = SHAPES.classes.index("pole")
_REFERENCE_SIDE = 160  # Lengths below are in pixels of an image whose short side is this.
_SPARED_OBJECT = 22.0  # Objects smaller than this have no void inside their outline: little would be left.
_SUPERSAMPLING = 4
_FIXED_POINT_BITS = 4

Image = NDArray[np.uint8]
Points = NDArray[np.float64]


class Shapes(SegmentationDataset):
    """Images of disks, squares, triangles, stars, crosses, rings and poles, drawn on demand.

    The same (seed, split, index, size) gives the same image in any process; no image is in two splits.

    Args:
        split: "train", "val" or "test".
        size: side, or (height, width), of every image in pixels. Objects grow with the short side.
        lengths: number of images by split, for the splits that should differ from ``LENGTHS``.
        seed: a different seed gives a different data set.

    Raises:
        AtrousError: unknown split, image too small, empty split or negative seed.
    """

    def __init__(
        self,
        split: str = "train",
        *,
        size: int | Sequence[int] = _REFERENCE_SIDE,
        lengths: Mapping[str, int] | None = None,
        seed: int = 0,
    ) -> None:
        unknown = [name for name in (split, *(lengths or {})) if name not in LENGTHS]
        if unknown:
            raise AtrousError(f"shapes has no split {unknown[0]!r}: choose one of {', '.join(LENGTHS)}.")
        length = {**LENGTHS, **(lengths or {})}[split]
        require_range(f"data.dataset.lengths.{split}", length, at_least=1, at_most=1_000_000)
        require_range("data.dataset.seed", seed, at_least=0)
        sides = (size, size) if isinstance(size, int) else tuple(int(side) for side in size)
        if len(sides) != 2 or min(sides) < SMALLEST_SIZE:
            raise AtrousError(
                f"shapes cannot draw images of size {size}: "
                f"give one side or (height, width) of at least {SMALLEST_SIZE}."
            )
        self.label_space = SHAPES
        self.split = split
        self.size = (sides[0], sides[1])
        self.seed = seed
        self.names = [f"shapes_{split}_{index:05d}" for index in range(length)]

    def __getitem__(self, index: int) -> RawSample:
        """Draw one image and its mask (uint8 H×W×3 RGB; uint8 H×W train ids, 255 = void)."""
        name = self.names[index]  # An index out of range is an IndexError, which also ends `for sample in dataset`.
        key = (tuple(LENGTHS).index(self.split), index % len(self.names))
        rng = np.random.default_rng(SeedSequence(self.seed, spawn_key=key))
        image, mask = _draw_scene(rng, self.size)
        return RawSample(image=image, mask=mask, name=name)

    def image_size(self, index: int) -> tuple[int, int]:
        """Height and width of every image."""
        return self.size

    def fingerprint(self, *, images: bool = False) -> str:
        """The inputs that decide every image, and the first sample, which shows how images are drawn."""
        drawn_from = (self.label_space, self.split, len(self), self.size, self.seed)
        first = self[0]
        drawn = first.mask.tobytes() + (first.image.tobytes() if images else b"")
        return hashlib.sha256(repr(drawn_from).encode() + drawn).hexdigest()


@dataclass(frozen=True)
class _Object:
    """One thing of a scene: outlines in pixels (even-odd fill) and a depth; the deepest is painted first."""

    label: int
    contours: tuple[Points, ...]
    depth: float
    thin: bool


def _draw_scene(rng: Generator, size: tuple[int, int]) -> tuple[Image, Image]:
    objects = sorted(_random_objects(rng, size), key=lambda item: -item.depth)
    colors = _random_colors(rng, len(objects) + 2)
    image = _background(rng, size, colors[-2:])
    shadow = _random_shadow(rng, size)
    instances = np.zeros(size, np.uint8)
    for number, (item, color) in enumerate(zip(objects, colors, strict=False), start=1):
        _paint(rng, item, color, image=image, instances=instances, number=number, shadow=shadow)
    labels = np.array([0, *(item.label for item in objects)], np.uint8)
    spared = np.array([False, *(item.thin for item in objects)])
    return _photograph(rng, image), _mask_with_void(instances, labels, spared)


def _mask_with_void(instances: Image, labels: Image, spared: NDArray[np.bool_]) -> Image:
    """Label every pixel, with one pixel of void on either side of an outline, but none inside ``spared`` instances."""
    neighborhood = np.ones((3, 3), np.uint8)
    outline = cv2.dilate(instances, neighborhood) != cv2.erode(instances, neighborhood)
    mask = labels[instances]
    mask[outline & ~spared[instances]] = SHAPES.ignore_index
    return mask


# What is in a scene.


def _random_objects(rng: Generator, size: tuple[int, int]) -> list[_Object]:
    solids = [_random_solid(rng, size) for _ in range(rng.integers(1, 5))]
    poles = [_random_pole(rng, size) for _ in range(rng.integers(0, 3))]
    return solids + poles


def _random_solid(rng: Generator, size: tuple[int, int]) -> _Object:
    short = min(size)
    unit = short / _REFERENCE_SIDE
    label = int(rng.integers(1, _POLE))
    smallest = max(14.0, 20 * unit) if label == _RING else max(8.0, 10 * unit)
    steps = (smallest, 0.22 * short, 0.5 * short, 0.95 * short)
    # Large ones are drawn more often, since smaller ones hide parts of them.
    band = int(rng.choice(3, p=(0.3, 0.3, 0.4)))
    diameter = rng.uniform(steps[band], steps[band + 1])
    outline = _OUTLINES[SHAPES.classes[label]](diameter / 2)
    contours: tuple[Points, ...] = (outline,)
    if label == _RING:
        thickness = max(2.5, rng.uniform(2.6, 4.2) * unit)
        contours = (outline, outline * (1 - 2 * thickness / diameter))
    reach = 0.35 * diameter
    center = [rng.uniform(min(reach, side / 2), max(side - reach, side / 2)) for side in reversed(size)]
    angle = rng.uniform(0, 2 * np.pi)
    return _Object(
        label=label,
        contours=tuple(_rotate(contour, angle) + center for contour in contours),
        depth=diameter * rng.uniform(0.6, 1.4),
        thin=label == _RING or diameter < _SPARED_OBJECT,
    )


def _random_pole(rng: Generator, size: tuple[int, int]) -> _Object:
    short = min(size)
    length = rng.uniform(0.35, 1.1) * short
    width = max(2.0, rng.uniform(2.0, 3.4) * short / _REFERENCE_SIDE)
    corners = np.array([(-length, -width), (length, -width), (length, width), (-length, width)]) / 2
    center = [rng.uniform(0.15, 0.85) * side for side in reversed(size)]
    return _Object(
        label=_POLE,
        contours=(_rotate(corners, rng.uniform(0, np.pi)) + center,),
        depth=rng.uniform(0.0, 0.5) * short,
        thin=True,
    )


def _rotate(points: Points, angle: float) -> Points:
    cosine, sine = np.cos(angle), np.sin(angle)
    # Written out because a matrix product rounds differently from one machine to another.
    x, y = points[:, 0], points[:, 1]
    return np.stack([x * cosine - y * sine, x * sine + y * cosine], axis=1)


def _on_circle(count: int) -> Points:
    angles = np.arange(count) * (2 * np.pi / count)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _disk(radius: float) -> Points:
    return radius * _on_circle(72)


def _square(radius: float) -> Points:
    return radius * _on_circle(4)


def _triangle(radius: float) -> Points:
    return 1.15 * radius * _on_circle(3)  # Its area is small for its reach, and so is the star's.


def _star(radius: float) -> Points:
    points = 1.1 * radius * _on_circle(10)
    points[1::2] *= 0.48
    return points


def _cross(radius: float) -> Points:
    arm = 0.32
    quarter = np.array([(1.0, -arm), (1.0, arm), (arm, arm)]) * (radius / np.hypot(1.0, arm))
    return np.concatenate([_rotate(quarter, turn * np.pi / 2) for turn in range(4)])


_OUTLINES: Mapping[str, Callable[[float], Points]] = {
    "disk": _disk,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "ring": _disk,
}


# How it looks.


def _random_colors(rng: Generator, count: int) -> NDArray[np.float64]:
    """Colors (count×3, 0..255) that can be told apart: the best of several draws, with no position favored."""
    hue, saturation, value = rng.random((3, 24, count))
    saturation, value = 0.15 + 0.6 * saturation, 60 + 180 * value
    sector = (hue[..., None] * 6 + np.array([5.0, 3.0, 1.0])) % 6
    draws = value[..., None] * (1 - saturation[..., None] * np.clip(np.minimum(sector, 4 - sector), 0, 1))
    distance = np.abs(draws[:, :, None] - draws[:, None]).sum(-1) + 1e3 * np.eye(count)
    best: NDArray[np.float64] = draws[distance.min(axis=(1, 2)).argmax()]
    return best


def _surface(rng: Generator, size: tuple[int, int], color: NDArray[np.float64]) -> Image:
    """A textured piece of material, uint8 H×W×3, whose mean is about ``color``."""
    pattern = _PATTERNS[rng.integers(len(_PATTERNS))](rng, size)
    contrast = rng.uniform(12, 34) * (1 + rng.uniform(-0.5, 0.5, 3))
    ramp = np.linspace(-1, 1, 256)[:, None] * contrast + color
    table = np.clip(np.rint(ramp), 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(cv2.merge([pattern] * 3), table[None]), np.uint8)


_CREST = np.rint(127.5 + 127.5 * np.clip(2.0 * np.sin(np.arange(256) * (2 * np.pi / 256)), -1, 1)).astype(np.uint8)


def _waves(rng: Generator, size: tuple[int, int], shortest: float, longest: float) -> Image:
    """Waves in a random direction, ``shortest`` to ``longest`` pixels from crest to crest."""
    angle, slope = rng.uniform(0, 2 * np.pi), 256 * 256 / rng.uniform(shortest, longest)
    across = np.arange(size[1], dtype=np.int32) * round(slope * np.cos(angle))
    down = np.arange(size[0], dtype=np.int32) * round(slope * np.sin(angle)) + int(rng.integers(256 * 256))
    waves: Image = _CREST[((down[:, None] + across) >> 8) & 255]
    return waves


def _stripes(rng: Generator, size: tuple[int, int]) -> Image:
    return _waves(rng, size, 6, 20)


def _checks(rng: Generator, size: tuple[int, int]) -> Image:
    checks: Image = _waves(rng, size, 8, 22) // 2 + _waves(rng, size, 8, 22) // 2
    return checks


def _clouds(rng: Generator, size: tuple[int, int]) -> Image:
    return _stretch(rng, size, rng.uniform(8, 28))


def _grain(rng: Generator, size: tuple[int, int]) -> Image:
    return _stretch(rng, size, rng.uniform(1.5, 4))


def _sheen(rng: Generator, size: tuple[int, int]) -> Image:
    return _waves(rng, size, 120, 400)


_PATTERNS: tuple[Callable[[Generator, tuple[int, int]], Image], ...] = (_stripes, _checks, _clouds, _grain, _sheen)


def _stretch(rng: Generator, size: tuple[int, int], cell: float) -> Image:
    """Smooth noise whose bumps are about ``cell`` pixels wide."""
    height, width = (int(side / cell) + 2 for side in size)
    noise = rng.integers(0, 256, (height, width), np.uint8)
    return np.asarray(cv2.resize(noise, (size[1], size[0]), interpolation=cv2.INTER_LINEAR_EXACT), np.uint8)


def _background(rng: Generator, size: tuple[int, int], colors: NDArray[np.float64]) -> Image:
    """Two materials that flow into each other."""
    first, second = (_surface(rng, size, color) for color in colors)
    share = _stretch(rng, size, min(size) / rng.uniform(1.0, 2.5))
    return _mix(first, second, share)


def _mix(below: Image, above: Image, alpha: Image) -> Image:
    """Lay ``above`` over ``below`` with opacity ``alpha`` (uint8 H×W)."""
    weight = _thrice(alpha + (alpha >> 7).astype(np.uint16))
    return _narrow((above * weight + below * (256 - weight)) >> 8)


def _thrice(plane: NDArray[np.integer[Any]]) -> NDArray[np.uint16]:
    """Repeat a plane for each color; arithmetic on the copy is faster than on a broadcast axis of length 3."""
    return np.asarray(cv2.merge([plane.astype(np.uint16)] * 3), np.uint16)


def _narrow(values: NDArray[np.integer[Any]]) -> Image:
    narrow: Image = values.astype(np.uint8)
    return narrow


@dataclass(frozen=True)
class _Shadow:
    """The soft shadow that objects of one scene cast: shift in pixels (x, y), width of the blur, darkness 0..255."""

    shift: tuple[int, int]
    blur: int
    darkness: int


def _random_shadow(rng: Generator, size: tuple[int, int]) -> _Shadow:
    reach = max(2, round(3 * min(size) / _REFERENCE_SIDE))
    x, y = (int(step) for step in rng.integers(-reach, reach + 1, 2))
    return _Shadow(shift=(x, y), blur=2 * reach + 1, darkness=int(rng.integers(0, 110)))


def _paint(
    rng: Generator,
    item: _Object,
    color: NDArray[np.float64],
    *,
    image: Image,
    instances: Image,
    number: int,
    shadow: _Shadow,
) -> None:
    """Draw an object with its shadow into ``image``, and its number into ``instances``."""
    margin = 2 * shadow.blur
    corners = np.concatenate(item.contours)
    left, top = np.maximum(np.floor(corners.min(axis=0)).astype(int) - margin, 0)
    right, bottom = np.minimum(np.ceil(corners.max(axis=0)).astype(int) + margin, image.shape[1::-1])
    alpha = _coverage(item.contours, left=left, top=top, size=(bottom - top, right - left))
    window = (slice(top, bottom), slice(left, right))

    (x, y), border = shadow.shift, max(map(abs, shadow.shift))
    bordered = cv2.copyMakeBorder(alpha, border, border, border, border, cv2.BORDER_REPLICATE)
    moved = bordered[border - y :, border - x :][: alpha.shape[0], : alpha.shape[1]]
    dark = np.asarray(cv2.blur(moved, (shadow.blur, shadow.blur)), np.uint16)
    light = _thrice(256 - ((dark * shadow.darkness) >> 8))
    shaded = _narrow((image[window] * light) >> 8)
    image[window] = _mix(shaded, _surface(rng, alpha.shape, color), alpha)
    instances[window][alpha >= 128] = number


def _coverage(contours: tuple[Points, ...], *, left: int, top: int, size: tuple[int, int]) -> Image:
    """Share of each pixel, 0..255, that lies inside the contours."""
    fine = np.zeros((size[0] * _SUPERSAMPLING, size[1] * _SUPERSAMPLING), np.uint8)
    # The center of fine pixel 0 lies half a fine pixel inside the window.
    scale = 1 << _FIXED_POINT_BITS
    polygons = [
        np.rint(((contour - (left, top)) * _SUPERSAMPLING - 0.5) * scale).astype(np.int32) for contour in contours
    ]
    cv2.fillPoly(fine, polygons, (255,), shift=_FIXED_POINT_BITS)
    return np.asarray(cv2.resize(fine, (size[1], size[0]), interpolation=cv2.INTER_AREA), np.uint8)


def _photograph(rng: Generator, image: Image) -> Image:
    """Light that falls off across the image, a lens that is not quite sharp, and a sensor with noise."""
    height, width = image.shape[:2]
    slope_x, slope_y = (int(slope) for slope in rng.integers(-70, 71, 2))
    level = int(rng.integers(215, 290))
    light = level + (np.arange(height) * slope_y // height - slope_y // 2)[:, None]
    light = light + (np.arange(width) * slope_x // width - slope_x // 2)
    # Shifted by 8 in two steps, because 255 times the strongest light needs more than 16 bits.
    lit = _narrow(np.minimum((image * _thrice(light >> 1)) >> 7, 255))
    blurred = cv2.GaussianBlur(lit, (3, 3), rng.uniform(0.35, 0.75))
    strength = int(rng.integers(4, 16))
    noise = rng.integers(0, 256, (2, *image.shape), np.uint8).astype(np.int16)
    grainy: NDArray[np.int16] = blurred + (((noise[0] - noise[1]) * strength) >> 8)
    grain: Image = np.clip(grainy, 0, 255).astype(np.uint8)
    return grain
