"""Where networks fail: the validation images on which bicycles, chairs or other thin classes are worst."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from atrous.commands.figures.source import Source
from atrous.data.dataset import RawSample
from atrous.reports.theme import Theme, themed_figure

_THIN = ("bicycle", "chair", "pole", "ring")
_LEAST = 0.02
"""Share of the pixels that a class must have for an image to count."""


def figure(source: Source) -> Callable[[Theme], Figure]:
    """Image, truth, prediction and the confidence of the unary, as in the failures of DeepLabv2 (§5, figure 13)."""
    dataset = source.seen
    space = dataset.label_space
    wanted = [space.classes.index(name) for name in _THIN if name in space.classes]
    worst: dict[int, tuple[float, RawSample]] = {}
    for index in range(len(dataset)):
        mask = dataset.mask(index)
        present = [number for number in wanted if (mask == number).mean() > _LEAST]
        if not present:
            continue
        sample = dataset[index]
        labels = source.probabilities(sample)[0].argmax(dim=0).numpy()
        for number in present:
            iou = _iou(labels, mask, number)
            if number not in worst or iou < worst[number][0]:
                worst[number] = (iou, sample)
    rows = []
    for number, (iou, sample) in worst.items():
        confidence, chosen = source.probabilities(sample)[0].max(dim=0)
        rows.append((space.classes[number], iou, sample, chosen.numpy(), confidence.numpy()))

    def draw(theme: Theme) -> Figure:
        ratio = max(sample.mask.shape[0] / sample.mask.shape[1] for _, _, sample, _, _ in rows)
        drawn = themed_figure(theme, 8.4, len(rows) * (0.35 + 2.1 * ratio))
        for row, (name, iou, sample, labels, confidence) in enumerate(rows):
            pictures: tuple[tuple[str, NDArray[np.generic]], ...] = (
                (f"worst {name}: IoU {iou:.0%}", sample.image),
                ("truth", space.colorize(sample.mask)),
                ("prediction", space.colorize(labels.astype(np.uint8))),
                ("confidence, dark is unsure", confidence),
            )
            for place, (title, pixels) in enumerate(pictures, start=1):
                axes = drawn.add_subplot(len(rows), len(pictures), row * len(pictures) + place)
                axes.imshow(pixels, cmap=theme.map, vmin=1 / len(space.classes), vmax=1)
                axes.set_title(title, fontsize=9, loc="left")
                axes.set_axis_off()
        return drawn

    return draw


def _iou(labels: NDArray[np.int64], mask: NDArray[np.uint8], number: int) -> float:
    counted = mask != 255
    predicted, true = (labels == number) & counted, mask == number
    return float((predicted & true).sum() / max(1, (predicted | true).sum()))
