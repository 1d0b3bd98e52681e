"""What is in the masks of a folder: ids or colors, and how many pixels of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from atrous.data.decoding import decode_colors, decode_ids, image_size, is_turned
from atrous.data.description.color_code import Color, count_colors, to_hex
from atrous.data.preparation.parallel import in_parallel
from atrous.data.sets.files import naming
from atrous.errors import AtrousError

_MOST_CLASSES = 255


class Contents(NamedTuple):
    """What the masks of a folder hold.

    Attributes:
        ids: Pixels of every id; empty where masks hold colors.
        colors: Pixels of every color; empty where masks hold ids.
        palette: Colors of ids, where the files say them.
        problems: What is wrong with single files, one sentence each.
        turned: Images that an EXIF tag turns.
        fits_stored: Whether all masks of turned images have their size as it is stored.
        fits_upright: Whether all have their size once they are turned.
        side: The median of the shorter sides of the images in pixels.
    """

    ids: Counter[int]
    colors: Counter[Color]
    palette: dict[int, Color]
    problems: list[str]
    turned: int
    fits_stored: bool
    fits_upright: bool
    side: int


class _Pair(NamedTuple):
    image: Path
    mask: Path


class _Looked(NamedTuple):
    """What one pair gave; ``ids`` is ``None`` if its mask holds colors, ``colors`` if its ids have none."""

    problem: str | None = None
    ids: dict[int, int] | None = None
    colors: dict[Color, int] | None = None
    palette: dict[int, Color] | None = None
    size: tuple[int, int] = (0, 0)
    stored: tuple[int, int] = (0, 0)
    upright: tuple[int, int] = (0, 0)
    turned: bool = False


def look_at(images: Sequence[Path], masks: Sequence[Path], *, workers: int | None = None) -> Contents:
    """Read all masks, and the sizes of their images.

    Masks whose red, green and blue are equal in all files hold ids.

    Args:
        images: Images.
        masks: The mask of each.
        workers: Processes; ``None`` for one on each core.

    Raises:
        AtrousError: No mask can be read, or they hold more ids or colors than there can be classes.
    """
    pairs = [_Pair(*each) for each in zip(images, masks, strict=True)]
    looked = in_parallel(_look, pairs, "looking at masks", workers=workers)
    problems = [each.problem for each in looked if each.problem is not None]
    good = [(pair, each) for pair, each in zip(pairs, looked, strict=True) if each.problem is None]
    if not good:
        raise AtrousError(f"none of the {len(pairs)} masks can be read; the first: {problems[0]}")
    hold_colors = any(each.ids is None for _, each in good)
    ids: Counter[int] = Counter()
    colors: Counter[Color] = Counter()
    palette: dict[int, Color] = {}
    for pair, each in good:
        if not hold_colors:
            ids.update(each.ids)
            palette |= each.palette or {}
        elif each.colors is None:
            raise AtrousError(f"{pair.mask} holds ids of 16 bits, but other masks hold colors; save all of them alike")
        else:
            colors.update(each.colors)
        if each.size not in (each.stored, each.upright):
            width, height = each.stored[1], each.stored[0]
            problems.append(
                f"{pair.image} is {width}x{height} pixels but its mask {pair.mask} is {each.size[1]}x{each.size[0]}"
            )
    _require_few(ids, colors)
    turned = [each for _, each in good if each.turned]
    return Contents(
        ids=ids,
        colors=colors,
        palette=palette,
        problems=problems,
        turned=len(turned),
        fits_stored=all(each.size == each.stored for each in turned),
        fits_upright=all(each.size == each.upright for each in turned),
        side=int(np.median([min(each.stored) for _, each in good])),
    )


def _look(pair: _Pair) -> _Looked:
    try:
        with naming(pair.image, "image"):
            turned = is_turned(pair.image.read_bytes())
            stored = image_size(pair.image)
            upright = image_size(pair.image, upright=True)
        with naming(pair.mask, "mask"):
            found = _read(pair.mask.read_bytes())
    except AtrousError as error:
        return _Looked(str(error))
    return found._replace(stored=stored, upright=upright, turned=turned)


def _read(content: bytes) -> _Looked:
    """Ids and colors of a mask."""
    with Image.open(BytesIO(content)) as opened:
        mode = opened.mode
        entries = opened.getpalette() if mode == "P" else None
    if mode.startswith("I"):
        return _with_ids(decode_ids(content))
    if mode in ("P", "L", "1"):
        found = _with_ids(decode_ids(content))
        ramp = [value for value in range(256) for _ in range(3)]
        whole = ramp if entries is None else [*entries, *[0] * (768 - len(entries))]
        palette = {each: (whole[3 * each], whole[3 * each + 1], whole[3 * each + 2]) for each in found.ids or {}}
        colors: Counter[Color] = Counter()
        for each, color in palette.items():
            colors[color] += (found.ids or {})[each]
        return found._replace(colors=colors, palette={} if entries is None or _is_gray_ramp(entries) else palette)
    colored = decode_colors(content)
    colors = Counter(count_colors(colored))
    if all(red == green == blue for red, green, blue in colors):
        return _with_ids(colored[..., 0])._replace(colors=colors)
    return _Looked(colors=colors, size=colored.shape[:2])


def _with_ids(mask: NDArray[Any]) -> _Looked:
    counts = np.bincount(mask.ravel())
    ids = {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    return _Looked(ids=ids, size=(mask.shape[0], mask.shape[1]))


def _is_gray_ramp(entries: Sequence[int]) -> bool:
    return all(entries[place] == entries[place + 1] == entries[place + 2] for place in range(0, len(entries) - 2, 3))


def _require_few(ids: Counter[int], colors: Counter[Color]) -> None:
    for what, found in (("ids", len(ids)), ("colors", len(colors))):
        if found > _MOST_CLASSES:
            most = ", ".join(to_hex(color) for color, _ in colors.most_common(5)) if what == "colors" else ""
            blurred = f": they were smoothed when they were saved (the most frequent are {most})" if most else ""
            raise AtrousError(
                f"the masks hold {found:,} {what}, more than the {_MOST_CLASSES} classes that are possible{blurred}"
            )
