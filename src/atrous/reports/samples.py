"""A picture of some images of a data set with their masks, by which a person sees whether they fit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from atrous.data.dataset import RawSample
from atrous.data.label_space import IGNORE_COLOR, LabelSpace
from atrous.errors import AtrousError
from atrous.reports.legend import BACKGROUND, GAP, INK, LEGEND_LINE, QUIET, RGB, Entry, draw_legend, legend_lines

_WIDTH = 240
_CAPTION = 18
_COLUMNS = 3
_ALPHA = 0.6


def sample_sheet(samples: Sequence[RawSample], label_space: LabelSpace) -> RGB:
    """Images beside themselves under their masks, three to a row, with a legend of the classes that occur.

    Args:
        samples: At least one.
        label_space: Names and colors of the ids.

    Returns:
        uint8 RGB.

    Raises:
        AtrousError: There is no sample.
    """
    if not samples:
        raise AtrousError("a sheet of samples needs at least one sample")
    columns = min(_COLUMNS, len(samples))
    rows = [samples[begin : begin + columns] for begin in range(0, len(samples), columns)]
    heights = [max(_height(sample) for sample in row) for row in rows]
    width = columns * (2 * _WIDTH + 2 * GAP) + GAP
    font = ImageFont.load_default(12)
    legend = legend_lines(_entries(samples, label_space), width, font)
    top = GAP + sum(height + _CAPTION + 2 * GAP for height in heights)
    canvas = Image.new("RGB", (width, top + LEGEND_LINE * len(legend) + GAP), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    y = GAP
    for row, height in zip(rows, heights, strict=True):
        for column, sample in enumerate(row):
            x = GAP + column * (2 * _WIDTH + 2 * GAP)
            draw.text((x, y), _shortened(sample.name, font), fill=INK, font=font)
            size = f"{sample.mask.shape[1]}x{sample.mask.shape[0]}"
            draw.text((x + 2 * _WIDTH, y), size, fill=QUIET, font=font, anchor="ra")
            for place, picture in enumerate((sample.image, _under_mask(sample, label_space))):
                tile = Image.fromarray(picture).resize((_WIDTH, _height(sample)), Image.Resampling.BOX)
                canvas.paste(tile, (x + place * _WIDTH, y + _CAPTION))
        y += height + _CAPTION + 2 * GAP
    draw_legend(draw, legend, top, font)
    return np.asarray(canvas)


def _height(sample: RawSample) -> int:
    height, width = map(int, sample.mask.shape)
    return max(1, round(height * _WIDTH / width))


def _under_mask(sample: RawSample, label_space: LabelSpace) -> RGB:
    mixed = (1 - _ALPHA) * sample.image + _ALPHA * label_space.colorize(sample.mask)
    return mixed.round().astype(np.uint8)


def _entries(samples: Sequence[RawSample], label_space: LabelSpace) -> list[Entry]:
    present = np.unique(np.concatenate([np.unique(sample.mask) for sample in samples]))
    entries: list[Entry] = [
        (label_space.classes[index], label_space.palette[index]) for index in present if index < label_space.num_classes
    ]
    if label_space.ignore_index in present:
        entries.append(("ignored", IGNORE_COLOR))
    return entries


def _shortened(name: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    """The end of a long name."""
    room = 2 * _WIDTH - 80
    if font.getlength(name) <= room:
        return name
    while font.getlength(f"...{name}") > room:
        name = name[1:]
    return f"...{name}"
