"""One image through four upsamplers at output stride 32: bilinear, deconvolution, sub-pixel and DUpsampling."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from atrous.commands.figures.source import Source, image_of
from atrous.inference import WholeImage
from atrous.reports.theme import Theme, themed_figure

_ARMS = {
    "bilinear": "bilinear, 32",
    "deconvolution": "deconvolution, 32",
    "sub-pixel": "sub-pixel, 32",
    "DUpsampling": "DUpsampling, 32",
}
_IMAGES = (3, 7)


def figure(source: Source) -> Callable[[Theme], Figure]:
    """Networks of sweep=upsampler, which differ in nothing else (DUpsampling table 1)."""
    rows: list[dict[str, NDArray[np.uint8]]] = [{} for _ in _IMAGES]
    for name, arm in _ARMS.items():
        segmentor, dataset = source.trained("upsampler", arm)
        space = dataset.label_space
        for row, index in zip(rows, _IMAGES, strict=True):
            sample = dataset[index]
            row.setdefault("image", sample.image)
            row.setdefault("truth", space.colorize(sample.mask))
            labels = WholeImage()(segmentor, image_of(sample))[0].argmax(dim=0).numpy()
            row[name] = space.colorize(labels.astype(np.uint8))

    def draw(theme: Theme) -> Figure:
        across = len(rows[0])
        drawn = themed_figure(theme, 8.4, 0.3 + len(rows) * 8.4 / across)
        for number, row in enumerate(rows):
            for place, (name, pixels) in enumerate(row.items(), start=1):
                axes = drawn.add_subplot(len(rows), across, number * across + place)
                axes.imshow(pixels, interpolation="nearest")
                axes.set_axis_off()
                if number == 0:
                    axes.set_title(name, fontsize=9, loc="left")
        return drawn

    return draw
