"""How often each pixel is used by three stacked 3×3 convolutions: rates 2, 2, 2 leave holes, 1, 2, 5 leave none."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.figure import Figure

from atrous.commands.figures.source import Source
from atrous.models.backbones.hdc import holes, keeps_the_rule, max_distances, share_of_pixels_used
from atrous.reports.theme import Theme, themed_figure

_SCHEDULES = ((2, 2, 2), (1, 2, 5), (2, 4, 8))


def paths_to_the_center(rates: Sequence[int]) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """For every pixel of the field of view, how many paths lead from it to the output pixel: side×side."""
    along = np.ones(1, dtype=np.int64)
    for rate in rates:
        kernel = np.zeros(2 * rate + 1, dtype=np.int64)
        kernel[[0, rate, 2 * rate]] = 1
        along = np.convolve(along, kernel)
    return np.multiply.outer(along, along)


def figure(source: Source) -> Callable[[Theme], Figure]:
    """Figure 2 of HDC/DUC (§3.2), with its rule's verdict and the exact one."""
    counts = [paths_to_the_center(rates) for rates in _SCHEDULES]

    def draw(theme: Theme) -> Figure:
        drawn = themed_figure(theme, 8.4, 3.6)
        for place, (rates, paths) in enumerate(zip(_SCHEDULES, counts, strict=True), start=1):
            axes = drawn.add_subplot(1, len(_SCHEDULES), place)
            shown = np.ma.masked_equal(np.log1p(paths), 0)
            axes.imshow(shown, cmap=theme.map, interpolation="nearest")
            axes.set_facecolor(theme.page)
            axes.set_xticks([])
            axes.set_yticks([])
            middle = len(paths) // 2
            axes.plot([middle], [middle], marker="x", color=theme.orange, markersize=6, markeredgewidth=1.8)
            for side in axes.spines.values():
                side.set_color(theme.faint)
            verdict = "keeps the rule" if keeps_the_rule(rates) else "breaks the rule"
            verdict += f", common factor {math.gcd(*rates)}" if math.gcd(*rates) > 1 else ""
            seen = "no holes" if not holes(rates) else f"{1 - share_of_pixels_used(rates):.0%} are holes"
            axes.set_title(
                f"rates {', '.join(map(str, rates))}, {len(paths)}×{len(paths)}: {seen}", fontsize=10, loc="left"
            )
            axes.set_xlabel(f"M₂ = {max_distances(rates)[1]} {verdict}", fontsize=9)
        return drawn

    return draw
