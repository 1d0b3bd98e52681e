"""Borders with and without decoder and dense CRF: one image, and mIoU by distance from a border."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from atrous.commands.figures.source import Source, image_of
from atrous.crf import DenseCRF
from atrous.inference import WholeImage
from atrous.metrics import TrimapScore
from atrous.reports.theme import Theme, themed_figure

_ARMS = {"no decoder": "none (DeepLabv3)", "decoder": "48 channels, two 3×3"}
_WIDTHS = (1, 2, 3, 4, 5, 7, 10)
_IMAGE = 3
_SCORED = 100


def figure(source: Source) -> Callable[[Theme], Figure]:
    """Networks of sweep=decoder (DeepLabv3+ §4.4, figure 5)."""
    pictures: dict[str, NDArray[np.uint8]] = {}
    curves: dict[str, list[float]] = {}
    for name, arm in _ARMS.items():
        segmentor, dataset = source.trained("decoder", arm)
        space = dataset.label_space
        scores = {way: TrimapScore(space.num_classes, _WIDTHS, borders="void") for way in (name, f"{name}, CRF")}
        for index in range(min(_SCORED, len(dataset))):
            sample = dataset[index]
            image, mask = image_of(sample), torch.from_numpy(sample.mask)[None]
            unary = WholeImage()(segmentor, image)
            refined = DenseCRF()(unary, image, takes="probabilities")
            for (way, score), evidence in zip(scores.items(), (unary, refined), strict=True):
                labels = evidence.argmax(dim=1)
                score.update(labels, mask)
                if index == _IMAGE:
                    pictures.setdefault("image", sample.image)
                    pictures.setdefault("truth", space.colorize(sample.mask))
                    pictures[way] = space.colorize(labels[0].numpy().astype(np.uint8))
        for way, score in scores.items():
            curves[way] = [100 * each.miou for each in score.compute().values()]

    def draw(theme: Theme) -> Figure:
        across = len(pictures)
        drawn = themed_figure(theme, 8.4, 0.3 + 8.4 / across + 2.9)
        grid = drawn.add_gridspec(2, across, height_ratios=(8.4 / across, 2.9))
        for place, (name, pixels) in enumerate(pictures.items()):
            axes = drawn.add_subplot(grid[0, place])
            axes.imshow(pixels, interpolation="nearest")
            axes.set_title(name, fontsize=9, loc="left")
            axes.set_axis_off()
        axes = drawn.add_subplot(grid[1, :])
        for (way, values), color, style in zip(curves.items(), theme.series, ("-", "--", "-", "--"), strict=False):
            axes.plot(_WIDTHS, values, color=color, linestyle=style, marker="o", markersize=4, label=way)
        axes.set_xlabel("width of the band around the void outlines of objects, in pixels", fontsize=9)
        axes.set_ylabel("mIoU in %", fontsize=9)
        theme.tidy(axes)
        axes.legend(frameon=False, fontsize=8.5)
        return drawn

    return draw
