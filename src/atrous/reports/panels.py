"""Pictures that show what a model does: input, truth, prediction and error side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from atrous.data.label_space import IGNORE_COLOR, LabelSpace
from atrous.errors import AtrousError
from atrous.reports.legend import BACKGROUND, GAP, INK, LEGEND_LINE, QUIET, RGB, Entry, draw_legend, legend_lines

_WRONG = (220, 38, 38)
_CAPTION = 20
_SOFT = ("input", "confidence")  # others have colors that mean something


def tiles(
    image: Tensor | NDArray[Any],
    truth: Tensor | NDArray[Any],
    prediction: Tensor | NDArray[Any],
    label_space: LabelSpace,
    name: str,
    *,
    confidence: Tensor | NDArray[Any] | None = None,
) -> dict[str, RGB]:
    """One image as pictures of one size: input, truth, prediction, error with wrong pixels in red, and confidence.

    In the error tile correct pixels show the dimmed gray image and ignored pixels the color of the void. The confidence
    is dark at 0 and light at 1.

    Args:
        image: RGB 3×H×W, 0 to 255.
        truth: Train ids H×W, or the ignored id.
        prediction: Train ids H×W.
        label_space: Names and colors of the ids.
        name: Of the sample, for messages.
        confidence: Probabilities H×W of what was predicted; without them there is no such tile.

    Returns:
        uint8 RGB, height × width × 3, between 160 and 512 pixels wide, whatever the size of the image.

    Raises:
        AtrousError: The sizes of the maps differ.
    """
    picture = _array(image).transpose(1, 2, 0)
    truth, prediction = _array(truth), _array(prediction)
    if not picture.shape[:2] == truth.shape == prediction.shape:
        raise AtrousError(
            f"{name}: image {picture.shape[:2]}, truth {truth.shape} and prediction {prediction.shape} differ in size"
        )
    counted = truth != label_space.ignore_index
    drawn = {
        "input": picture,
        "truth": label_space.colorize(truth),
        "prediction": label_space.colorize(prediction),
        "error": _error(picture, counted & (truth != prediction), ~counted),
    }
    if confidence is not None:
        values = confidence.detach().cpu().numpy() if isinstance(confidence, torch.Tensor) else confidence
        drawn["confidence"] = colormaps["viridis"](values, bytes=True)[..., :3]
    size = _tile_size(picture.shape[1], picture.shape[0])
    return {title: _resized(tile, size, soft=title in _SOFT) for title, tile in drawn.items()}


def panel(
    image: Tensor | NDArray[Any],
    truth: Tensor | NDArray[Any],
    prediction: Tensor | NDArray[Any],
    label_space: LabelSpace,
    name: str,
) -> RGB:
    """One image as a strip of tiles: input, truth, prediction and error; see ``tiles``.

    The line above names the image and the share of correct pixels; the line below is the legend of the classes that
    occur.

    Args:
        image: RGB 3×H×W, 0 to 255.
        truth: Train ids H×W, or the ignored id.
        prediction: Train ids H×W.
        label_space: Names and colors of the ids.
        name: Caption, usually the name of the sample.

    Returns:
        uint8 RGB, height × width × 3.

    Raises:
        AtrousError: The sizes of the three maps differ.
    """
    strip = tiles(image, truth, prediction, label_space, name)
    truth, prediction = _array(truth), _array(prediction)
    counted = truth != label_space.ignore_index
    height, width = strip["input"].shape[:2]
    font = ImageFont.load_default(13)
    full_width = len(strip) * (width + GAP) + GAP
    present = np.union1d(truth[counted], prediction[counted])
    entries: list[Entry] = [(label_space.classes[index], label_space.palette[index]) for index in present]
    if not counted.all():
        entries.append(("ignored", IGNORE_COLOR))
    legend = legend_lines(entries, full_width, font)
    bottom = GAP + 2 * _CAPTION + height + GAP
    canvas = Image.new("RGB", (full_width, bottom + LEGEND_LINE * len(legend) + 2 * GAP), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    right = (truth == prediction)[counted]
    share = f"{100 * right.mean():.1f} % of the pixels right" if right.size else "all ignored"
    draw.text((GAP, GAP), name, fill=INK, font=ImageFont.load_default(14))
    draw.text((full_width - GAP, GAP), share, fill=QUIET, font=font, anchor="ra")
    for column, (title, tile) in enumerate(strip.items()):
        left = GAP + column * (width + GAP)
        draw.text((left, GAP + _CAPTION), title, fill=QUIET, font=font)
        canvas.paste(Image.fromarray(tile), (left, GAP + 2 * _CAPTION))
    draw_legend(draw, legend, bottom, font)
    return np.asarray(canvas)


def contact_sheet(panels: Sequence[RGB]) -> RGB:
    """Stack panels into one picture, the narrower ones padded with white on the right.

    Args:
        panels: At least one panel, uint8 RGB.

    Raises:
        AtrousError: There is no panel.
    """
    if not panels:
        raise AtrousError("a contact sheet needs at least one panel")
    width = max(each.shape[1] for each in panels)
    rows = [np.pad(each, ((0, 0), (0, width - each.shape[1]), (0, 0)), constant_values=255) for each in panels]
    return np.concatenate(rows)


def _array(values: Tensor | NDArray[Any]) -> NDArray[np.uint8]:
    array = values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else values
    return np.ascontiguousarray(array).astype(np.uint8)


def resized_labels(labels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Labels H×W at another width and height: each of them is that of the nearest pixel."""
    return np.asarray(Image.fromarray(labels).resize(size, Image.Resampling.NEAREST))


def _resized(tile: RGB, size: tuple[int, int], *, soft: bool) -> RGB:
    way = Image.Resampling.BOX if soft else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(tile).resize(size, way))


def _tile_size(width: int, height: int) -> tuple[int, int]:
    """Small images grow by a whole factor, so that captions fit; large ones shrink to 512 pixels."""
    if width > 512:
        return 512, max(1, round(height * 512 / width))
    factor = -(-160 // width)
    return width * factor, height * factor


def _error(picture: RGB, wrong: NDArray[np.bool_], ignored: NDArray[np.bool_]) -> RGB:
    gray = picture.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    error = np.repeat((0.5 * gray + 50)[..., None], 3, axis=2).astype(np.uint8)
    error[wrong] = _WRONG
    error[ignored] = IGNORE_COLOR
    return error
