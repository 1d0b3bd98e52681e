"""Share of the nine weights of a 3×3 filter that fall on a 65×65 map, by its rate: at large rates only one is left."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.figure import Figure

from atrous.commands.figures.source import Source
from atrous.reports.theme import Theme, themed_figure

_SIDE = 65
_KINDS = {9: "all 9 weights are valid", 4: "4 weights (near a corner)", 1: "1 weight: a 1×1 convolution"}


def valid_counts(rate: int, side: int = _SIDE) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """For every place of a map, how many of the nine weights of a 3×3 filter fall on the map: side×side."""
    places = np.arange(side)
    along = sum(((places + tap >= 0) & (places + tap < side)).astype(np.int64) for tap in (-rate, 0, rate))
    return np.multiply.outer(along, along)


def figure(source: Source) -> Callable[[Theme], Figure]:
    """Figure 4 of DeepLabv3 (§3.3), computed anew."""
    rates = list(range(1, 96))
    shares = {kind: [float((valid_counts(rate) == kind).mean()) for rate in rates] for kind in (1, 2, 3, 4, 6, 9)}

    def draw(theme: Theme) -> Figure:
        drawn = themed_figure(theme, 6.6, 3.4)
        axes = drawn.add_subplot()
        for (kind, label), color, style in zip(_KINDS.items(), theme.series, ("-", "--", "-."), strict=False):
            axes.plot(rates, shares[kind], color=color, linestyle=style, linewidth=2, label=label)
        for rate in (6, 12, 18, 24):
            axes.axvline(rate, color=theme.faint, linewidth=0.8, linestyle=":")
            axes.text(rate, 1.03, str(rate), ha="center", fontsize=8, color=theme.faint)
        axes.set_xlabel("atrous rate (dotted: those of the ASPP)", fontsize=9)
        axes.set_ylabel("share of the places of the map", fontsize=9)
        axes.set_xlim(1, rates[-1])
        axes.set_ylim(0, 1.0)
        theme.tidy(axes)
        axes.legend(frameon=False, fontsize=8.5, loc="center right")
        return drawn

    return draw
