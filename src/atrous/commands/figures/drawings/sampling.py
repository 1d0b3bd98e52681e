"""Atrous convolution beside shrinking, filtering and enlarging: the same filter, but a response at every place."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from atrous.commands.figures.source import Source
from atrous.reports.theme import Theme, themed_figure

_PLACES = 13


def derivative(side: int = 7) -> NDArray[np.float64]:
    """A vertical Gaussian derivative, as in the paper's figure: side×side, without sum."""
    places = np.arange(side) - side // 2
    bell = np.exp(-(places**2) / (2 * (side / 4) ** 2))
    kernel = np.multiply.outer(-places * bell, bell)
    return np.asarray(kernel / np.abs(kernel).sum())


def responses(gray: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of the filter on every second pixel, enlarged; and with rate 2 on every pixel: both H×W.

    They agree on every second pixel.
    """
    image = torch.from_numpy(gray)[None, None]
    kernel = torch.from_numpy(derivative())[None, None]
    coarse = F.conv2d(F.pad(image[..., ::2, ::2], (3, 3, 3, 3), mode="reflect"), kernel)
    sparse = torch.zeros_like(image)
    sparse[..., ::2, ::2] = coarse
    dense = F.conv2d(F.pad(image, (6, 6, 6, 6), mode="reflect"), kernel, dilation=2)
    return sparse[0, 0].numpy(), dense[0, 0].numpy()


def figure(source: Source) -> Callable[[Theme], Figure]:
    """Figures 2 and 3 of DeepLabv2 (§3.1)."""
    sample = source.images[min(9, len(source.images) - 1)]
    gray = sample.image.astype(np.float64).mean(axis=2)
    sparse, dense = responses(gray)
    top = float(np.abs(dense).max())

    def draw(theme: Theme) -> Figure:
        drawn = themed_figure(theme, 8.4, 5.4)
        rows = drawn.add_gridspec(2, 3, height_ratios=(1, 1.25))
        _wires(drawn.add_subplot(rows[0, :2]), theme)
        note = drawn.add_subplot(rows[0, 2])
        note.set_axis_off()
        note.text(
            0.0, 0.5, "Above: stride 2, then a filter\nof three weights. A response\nat every second place.\n\n"
            "Below: the same weights,\nrate 2, no stride. A response\nat every place, from as wide\na field.",
            fontsize=9, va="center", color=theme.ink,
        )  # fmt: skip
        for place, (pixels, title) in enumerate(
            ((gray, "image"), (sparse, "shrunk, filtered, enlarged"), (dense, "atrous, rate 2"))
        ):
            axes = drawn.add_subplot(rows[1, place])
            if place == 0:
                axes.imshow(pixels, cmap="gray")
            else:
                axes.imshow(pixels, cmap="RdBu_r", vmin=-top / 2, vmax=top / 2)
            axes.set_title(title, fontsize=10, loc="left")
            axes.set_axis_off()
        return drawn

    return draw


def _wires(axes: Axes, theme: Theme) -> None:
    """Which inputs the outputs of both ways are connected with, in one dimension."""
    for height, strided in ((2.6, True), (0.0, False)):
        outputs = range(4, _PLACES - 2, 2) if strided else range(4, _PLACES - 3)
        for place in outputs:
            marked = place == 6
            for tap in (-2, 0, 2):
                color = theme.orange if marked else theme.grid
                axes.plot([place + tap, place], [height, height + 1.3], color=color, linewidth=2 if marked else 1,
                          zorder=2 if marked else 1)  # fmt: skip
        for place in range(_PLACES):
            used = not strided or place % 2 == 0
            color = theme.blue if used else theme.page
            axes.plot([place], [height], "o", color=color, markersize=7, markeredgecolor=theme.blue, zorder=3)
        for place in outputs:
            axes.plot([place], [height + 1.3], "o", color=theme.orange, markersize=7, zorder=3)
        axes.text(-0.8, height, "input", ha="right", va="center", fontsize=9, color=theme.ink)
        axes.text(-0.8, height + 1.3, "output", ha="right", va="center", fontsize=9, color=theme.ink)
    axes.set_xlim(-3.2, _PLACES)
    axes.set_ylim(-0.5, 4.5)
    axes.set_axis_off()
