"""Pictures of a search and of what it found: weights of operations, the trellis with its path, and the cell."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import BoxStyle, ConnectionStyle, Rectangle
from torch import Tensor

from atrous.models.nas.genotype import FIRST, SECOND, STRIDES, Genotype, Operation, source_name
from atrous.models.nas.trellis import Trellis, edges_of, neighbors
from atrous.reports.figures import BLUE, FAINT, INK, ORANGE, new_figure

_SHORT = {
    Operation.SEPARABLE_3X3: "sep 3",
    Operation.SEPARABLE_5X5: "sep 5",
    Operation.ATROUS_3X3: "atrous 3",
    Operation.ATROUS_5X5: "atrous 5",
    Operation.AVERAGE_POOLING: "avg pool",
    Operation.MAX_POOLING: "max pool",
    Operation.SKIP: "skip",
    Operation.NONE: "none",
}


def operations_figure(weights: Tensor, genotype: Genotype, *, title: str = "alpha") -> Figure:
    """Draw the weight of every operation on every edge of the cell, in %; frames show what is decoded.

    Args:
        weights: Rows of edges, in the order of ``edges_of``, which add up to 1; columns of ``Operation``.
        genotype: What they decode to.
        title: Heading.
    """
    edges = edges_of(len(genotype.blocks))
    rows = [f"block {block + 1} from {source_name(source)}" for block, source in edges]
    decoded = {
        (edges.index((block, branch.source)), list(Operation).index(branch.operation))
        for block, branches in enumerate(genotype.blocks)
        for branch in branches
    }
    figure = new_figure(6.4, 1.4 + 0.26 * len(edges))
    axes = _heat_map(figure, weights, rows, [_SHORT[kind] for kind in Operation], decoded)
    axes.set_title(f"{title}: weights of the operations, in %", loc="left", fontsize=11, color=INK)
    return figure


def paths_figure(weights: Tensor, genotype: Genotype, *, title: str = "beta") -> Figure:
    """Draw the weight of every step from one layer to the next, in %; frames show the path that is decoded.

    Args:
        weights: Layers but the last × strides × next stride (half, the same, twice).
        genotype: What they decode to.
        title: Heading.
    """
    layers = len(genotype.strides) - 1
    steps = [(stride, after) for stride in STRIDES for after in neighbors(stride) if after in STRIDES]
    table = torch.full((len(steps), layers), torch.nan)
    for layer, stride, after in _steps(Trellis(layers + 1)):
        row = steps.index((stride, after))
        table[row, layer] = weights[layer, STRIDES.index(stride), neighbors(stride).index(after)]
    path = enumerate(itertools.pairwise(genotype.strides))
    figure = new_figure(2.0 + 0.5 * layers, 1.6 + 0.26 * len(steps))
    axes = _heat_map(
        figure,
        table,
        [f"{stride} to {after}" for stride, after in steps],
        [str(layer + 1) for layer in range(layers)],
        {(steps.index(step), layer) for layer, step in path},
    )
    axes.set_xlabel("after layer", fontsize=8.5, color=INK)
    axes.set_ylabel("stride", fontsize=8.5, color=INK)
    axes.set_title(f"{title}: weights of the steps, in %", loc="left", fontsize=11, color=INK)
    return figure


def genotype_figure(genotype: Genotype, *, title: str = "") -> Figure:
    """Draw the path through the trellis, and the cell.

    Args:
        genotype: What is drawn.
        title: Heading.
    """
    wide = max(5.0, 0.55 * len(genotype.strides) + 1.2)
    cell_wide = 1.15 * (len(genotype.blocks) + 2)
    figure = new_figure(wide + cell_wide, 3.6)
    trellis, cell = figure.subplots(1, 2, width_ratios=[wide, cell_wide])
    _draw_trellis(trellis, genotype)
    for layer, stride, after in _steps(Trellis(len(genotype.strides))):
        trellis.plot([layer, layer + 1], [_row(stride), _row(after)], color="#e4e7eb", linewidth=0.8, zorder=0)
    trellis.set_title("path", loc="left", fontsize=11, color=INK)
    _draw_cell(cell, genotype)
    cell.set_title("cell", loc="left", fontsize=11, color=INK)
    if title:
        figure.suptitle(title, fontsize=11, color=INK, x=0.01, ha="left")
    return figure


def _heat_map(
    figure: Figure, weights: Tensor, rows: list[str], columns: list[str], framed: set[tuple[int, int]]
) -> Axes:
    """Weights in %, empty where they are not a number, with frames around some."""
    percent = (100 * weights).numpy(force=True)
    axes = figure.add_subplot()
    top = max(25.0, np.nanmax(percent))
    axes.imshow(percent, cmap="Blues", vmin=0, vmax=top, aspect="auto")
    for (row, column), value in np.ndenumerate(percent):
        if not np.isnan(value):
            color = "white" if value > 0.6 * top else INK
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=6.5, color=color)
    for row, column in framed:
        axes.add_patch(_frame(column, row))
    axes.set_xticks(range(len(columns)), columns, fontsize=8)
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    _bare(axes)
    return axes


def _draw_trellis(axes: Axes, genotype: Genotype) -> None:
    layers = len(genotype.strides)
    trellis = Trellis(layers)
    nodes = [(layer, _row(stride)) for layer in range(layers) for stride in trellis.strides(layer)]
    axes.scatter([x for x, _ in nodes], [y for _, y in nodes], s=60, color="white", edgecolor=FAINT, zorder=3)
    path = [(-1, _row(STRIDES[0])), *((layer, _row(stride)) for layer, stride in enumerate(genotype.strides))]
    axes.plot(
        [x for x, _ in path], [y for _, y in path], color=ORANGE, linewidth=1.8, marker="o", markersize=7, zorder=4
    )
    axes.text(-1, _row(STRIDES[0]) + 0.3, "stem", fontsize=8, color=INK, ha="center")
    axes.set_xticks(range(layers), [str(layer + 1) for layer in range(layers)], fontsize=8)
    axes.set_yticks([_row(stride) for stride in STRIDES], [str(stride) for stride in STRIDES], fontsize=8)
    axes.set_xlim(-1.5, layers - 0.5)
    axes.set_ylim(_row(STRIDES[-1]) - 0.5, _row(STRIDES[0]) + 0.6)
    axes.set_xlabel("layer", fontsize=8.5, color=INK)
    axes.set_ylabel("stride", fontsize=8.5, color=INK)
    _bare(axes)


def _draw_cell(axes: Axes, genotype: Genotype) -> None:
    """Inputs on the left, a block a column with what it does, the concatenation on the right."""
    count = len(genotype.blocks)
    places = {0: (0.0, 1.5), 1: (0.0, -1.5)}
    places |= {SECOND + 1 + block: (1.5 * (block + 1), (1.0, -1.0)[block % 2]) for block in range(count)}
    end = (1.5 * (count + 1), 0.0)
    for block, branches in enumerate(genotype.blocks):
        place = places[SECOND + 1 + block]
        _arrow(axes, place, end, color="#e4e7eb", bend=0.0)
        for branch, color, bend in zip(branches, (BLUE, ORANGE), (0.12, -0.12), strict=True):
            _arrow(axes, places[branch.source], place, color=color, bend=bend)
        lines = [f"{_SHORT[branch.operation]} of {source_name(branch.source)}" for branch in branches]
        _write(axes, place, "\n".join([f"block {block + 1}", *lines]), size=6.5)
    for source in (FIRST, SECOND):
        _write(axes, places[source], source_name(source))
    _write(axes, end, "concat")
    axes.set_xlim(-0.6, end[0] + 0.7)
    axes.set_ylim(-2.2, 2.2)
    axes.set_xticks([])
    axes.set_yticks([])
    _bare(axes)


def _steps(trellis: Trellis) -> Iterator[tuple[int, int, int]]:
    """Layer, stride and next stride of every step."""
    for layer in range(trellis.layers - 1):
        for stride in trellis.strides(layer):
            for after in trellis.after(layer, stride):
                yield layer, stride, after


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], *, color: str, bend: float) -> None:
    style = {
        "arrowstyle": "-|>",
        "color": color,
        "shrinkA": 14,
        "shrinkB": 18,
        "connectionstyle": ConnectionStyle.Arc3(rad=bend),
    }
    axes.annotate("", xy=end, xytext=start, arrowprops=style)


def _write(axes: Axes, place: tuple[float, float], words: str, *, size: float = 8.5) -> None:
    """Words in a box."""
    box = {"boxstyle": BoxStyle.Round(pad=0.3), "facecolor": "white", "edgecolor": FAINT}
    axes.text(*place, words, fontsize=size, color=INK, ha="center", va="center", zorder=5, bbox=box)


def _row(stride: int) -> int:
    return -STRIDES.index(stride)


def _bare(axes: Axes) -> None:
    axes.tick_params(length=0, colors=INK)
    for side in axes.spines.values():
        side.set_visible(False)


def _frame(column: int, row: int) -> Rectangle:
    return Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=ORANGE, linewidth=1.6)
