"""Figures of a run: which classes are confused, how training went, and how scores fall toward borders."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy import interp
from torch import Tensor

from atrous.loggers.metrics_csv import Row, read_rows
from atrous.metrics import BorderScores
from atrous.reports.theme import LIGHT, Theme, themed_figure

INK = "#1f2933"
FAINT = "#9aa5b1"
BLUE = "#2563a8"
ORANGE = "#d9730d"
_NUMBERS_UP_TO = 32  # classes; cells of a larger matrix have no room for a number


def confusion_figure(confusion: Tensor, classes: Sequence[str]) -> Figure:
    """Draw a confusion matrix whose rows add up to 100 %: what became of the pixels of each true class.

    Args:
        confusion: Integers C×C, row = truth, column = prediction.
        classes: The C class names. A class without a true pixel gets an empty row.
    """
    counts = confusion.detach().cpu().double()
    truth = counts.sum(dim=1, keepdim=True)
    percent = (100 * counts / truth.clamp(min=1)).numpy()
    size = len(classes)
    cell = min(0.42, 16 / size)
    figure = new_figure(2.6 + cell * size, 2.0 + cell * size)
    axes = figure.add_subplot()
    image = axes.imshow(percent, cmap="Blues", vmin=0, vmax=100)
    small = 8.5 if size <= _NUMBERS_UP_TO else max(3.0, 260 / size)
    axes.set_xticks(range(size), classes, rotation=60, ha="right", rotation_mode="anchor", fontsize=small)
    axes.set_yticks(range(size), classes, fontsize=small)
    axes.set_xlabel("prediction", color=INK)
    axes.set_ylabel("truth", color=INK)
    axes.tick_params(length=0, colors=INK)
    axes.set_xticks([edge - 0.5 for edge in range(size + 1)], minor=True)
    axes.set_yticks([edge - 0.5 for edge in range(size + 1)], minor=True)
    axes.grid(which="minor", color="#e4e7eb", linewidth=0.6)
    axes.tick_params(which="minor", length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    if size <= _NUMBERS_UP_TO:
        for row in range(size):
            if not truth[row]:
                axes.text((size - 1) / 2, row, "no true pixel", ha="center", va="center", fontsize=6.5, color=FAINT)
                continue
            for column in range(size):
                value = percent[row, column]
                if value >= 0.5:
                    color = "white" if value > 55 else INK
                    axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=6.5, color=color)
    axes.set_title("Share of each true class, in %", loc="left", fontsize=11, color=INK)
    bar = figure.colorbar(image, ax=axes, fraction=0.03, pad=0.02, ticks=[0, 50, 100])
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=8, colors=INK)
    return figure


def trimap_figure(curves: Mapping[str, BorderScores], everywhere: Mapping[str, float], theme: Theme = LIGHT) -> Figure:
    """Draw mIoU over the width of the band around borders (DeepLabv1, figure "trimap"), one line each.

    Args:
        curves: Scores near borders, by label. Bands without a labeled pixel in any of them are not drawn.
        everywhere: mIoU of all pixels by label, drawn as broken lines.
        theme: Colors of the page.
    """
    kinds = [
        kind
        for kind in ("void", "classes")
        if any(math.isfinite(each.miou) for borders in curves.values() for each in borders.bands[kind].values())
    ]
    figure = themed_figure(theme, 5.2 * max(1, len(kinds)), 3.4 + 0.2 * len(curves))
    for place, kind in enumerate(kinds, start=1):
        axes = figure.add_subplot(1, len(kinds), place)
        for index, (label, borders) in enumerate(curves.items()):
            color = theme.series[index % len(theme.series)]
            bands = borders.bands[kind]
            percent = [100 * scores.miou for scores in bands.values()]
            axes.plot(list(bands), percent, color=color, linewidth=1.5, marker="o", markersize=3, label=label)
            axes.axhline(100 * everywhere[label], color=color, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
        axes.set_title(f"mIoU near {_BORDERS[kind]}, in %", loc="left", fontsize=11, color=theme.ink)
        axes.set_xlabel("width of the band in pixels (broken line: all pixels)", fontsize=8.5, color=theme.ink)
        axes.set_xlim(left=0)
        _tidy(axes, theme)
        if place == 1:
            handles, labels = axes.get_legend_handles_labels()
            style = {"frameon": False, "fontsize": 8.5, "labelcolor": theme.ink}
            figure.legend(handles, labels, loc="outside lower left", **style)
    return figure


def search_figure(
    axes: Sequence[Sequence[float]], scores: Mapping[tuple[float, ...], float], *, best: Sequence[float], title: str
) -> Figure:
    """Draw what a search for the bilateral kernel of a CRF has found: a heat map for every weight.

    Args:
        axes: Values of w₁, σ_α and σ_β, ascending.
        scores: mIoU of every point of their grid.
        best: The best point of the whole search, which may lie between those of the grid.
        title: What was scored.
    """
    weights, places, colors = axes
    percent = {point: 100 * score for point, score in scores.items()}
    across = min(4, len(weights))
    down = math.ceil(len(weights) / across)
    figure = new_figure(1.2 + 0.45 * len(places) * across, 1.2 + (1.0 + 0.4 * len(colors)) * down)
    nearest = min(weights, key=lambda weight: abs(weight - best[0]))
    image = None
    for place, weight in enumerate(weights, start=1):
        panel = figure.add_subplot(down, across, place)
        cells = [[percent[weight, xy, rgb] for xy in places] for rgb in colors]
        image = panel.imshow(
            cells, cmap="viridis", vmin=min(percent.values()), vmax=max(percent.values()), origin="lower"
        )
        panel.set_xticks(range(len(places)), [f"{xy:g}" for xy in places], fontsize=8)
        panel.set_yticks(range(len(colors)), [f"{rgb:g}" for rgb in colors], fontsize=8)
        panel.set_title(f"w₁ {weight:g}", loc="left", fontsize=9.5, color=INK)
        panel.set_xlabel("σ_α, pixels", fontsize=8, color=INK)
        panel.set_ylabel("σ_β, levels", fontsize=8, color=INK)
        panel.tick_params(length=0, colors=INK)
        if weight == nearest:
            x, y = (
                interp(value, axis, range(len(axis))) for value, axis in zip(best[1:], (places, colors), strict=True)
            )
            panel.plot([x], [y], marker="*", markersize=11, color="white", markeredgecolor=INK)
    assert image is not None
    bar = figure.colorbar(image, ax=figure.axes, fraction=0.03, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=8, colors=INK)
    figure.suptitle(f"mIoU in %, first pass; star: best of all\n{title}", fontsize=9.5, color=INK, x=0.01, ha="left")
    return figure


_BORDERS = {"void": "ignored pixels", "classes": "borders between classes"}


@dataclass(frozen=True)
class _Panel:
    title: str
    lines: dict[str, tuple[list[int], list[float]]]


def curves_figure(metrics_csv: str | Path, theme: Theme = LIGHT) -> Figure:
    """Draw loss, scores and learning rates over the training steps, one small plot each.

    Args:
        metrics_csv: File of ``MetricsCSV``. What is missing is not drawn; an empty file gives a note instead.
        theme: Colors of the page.
    """
    columns, rows = read_rows(metrics_csv)
    series = {name: line for name in columns if (line := _series(rows, name))[0]}
    rates = {name.removeprefix("lr-"): line for name, line in series.items() if _is_rate(name)}
    panels = [
        _Panel("loss", {name.partition("/")[0]: line for name, line in series.items() if name in _LOSSES}),
        _Panel("mIoU", {name.partition("/")[0]: line for name, line in series.items() if name in _MIOUS}),
        _Panel("accuracy", {_ACCURACIES[name]: line for name, line in series.items() if name in _ACCURACIES}),
        _Panel("learning rate", _distinct(rates)),
    ]
    panels = [panel for panel in panels if panel.lines]
    count = max(1, len(panels))
    across = min(2, count)
    down = math.ceil(count / across)
    figure = themed_figure(theme, 5.2 * across, 3.2 * down)
    if not panels:
        axes = figure.add_subplot()
        axes.set_axis_off()
        axes.text(0.5, 0.5, "nothing was logged yet", ha="center", va="center", color=theme.faint)
    last = max((int(row["step"]) for row in rows), default=0)
    for place, panel in enumerate(panels, start=1):
        axes = figure.add_subplot(down, across, place)
        _draw(axes, panel, theme)
        axes.set_xlim(-0.02 * last, max(1.0, 1.02 * last))
    return figure


def curves_over_each_other(metrics: Mapping[str, Path], theme: Theme = LIGHT) -> Figure:
    """Draw training loss and validation mIoU of several runs, a line for each.

    Args:
        metrics: Files of ``MetricsCSV`` by label.
        theme: Colors of the page.
    """
    figure = themed_figure(theme, 10.4, 3.4 + 0.2 * len(metrics))
    panels = {name: figure.add_subplot(1, 2, place) for place, name in enumerate(("train/loss", "val/miou"), start=1)}
    for index, (label, file) in enumerate(metrics.items()):
        _, rows = read_rows(file)
        color = theme.series[index % len(theme.series)]
        stroke = _STROKES[index // len(theme.series) % len(_STROKES)]
        for name, axes in panels.items():
            steps, values = _series(rows, name)
            drawn = _smooth(values) if name == "train/loss" else values
            axes.plot(steps, drawn, color=color, linestyle=stroke, linewidth=1.5, label=label)
    for name, axes in panels.items():
        axes.set_title({"train/loss": "training loss", "val/miou": "validation mIoU"}[name], loc="left", fontsize=11)
        axes.set_xlabel("step", fontsize=8.5)
        _tidy(axes, theme)
    handles, labels = panels["val/miou"].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", frameon=False, fontsize=8.5, labelcolor=theme.ink)
    return figure


_STROKES = ("-", "--", ":")  # tell more lines apart than there are colors
_LOSSES = ("train/loss", "val/loss")
_MIOUS = ("train/miou", "val/miou")
_ACCURACIES = {"val/pixel_accuracy": "pixel accuracy", "val/mean_accuracy": "mean accuracy", "val/fwiou": "fw IoU"}


def _draw(axes: Axes, panel: _Panel, theme: Theme) -> None:
    for index, (name, (steps, values)) in enumerate(panel.lines.items()):
        if name == "train" and panel.title == "loss":
            axes.plot(steps, values, color=theme.blue, alpha=0.28, linewidth=0.9)
            axes.plot(steps, _smooth(values), color=theme.blue, linewidth=1.7, label="train")
        elif name == "val":
            axes.plot(steps, values, color=theme.orange, linewidth=1.5, marker="o", markersize=3.5, label="val")
        else:
            marker = "o" if panel.title == "accuracy" else None
            axes.plot(
                steps,
                values,
                color=theme.series[index % len(theme.series)],
                linewidth=1.5,
                marker=marker,
                markersize=3,
                label=name,
            )
    if panel.title == "mIoU" and "val" in panel.lines:
        steps, values = panel.lines["val"]
        best = max(range(len(values)), key=values.__getitem__)
        axes.axhline(values[best], color=theme.faint, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
        axes.set_title(f"best {values[best]:.3f} at step {steps[best]}", loc="right", fontsize=8.5, color=theme.orange)
    axes.set_title(panel.title, loc="left", fontsize=11, color=theme.ink)
    axes.set_xlabel("step", fontsize=8.5, color=theme.ink)
    _tidy(axes, theme)
    if panel.title == "loss":
        axes.set_ylim(bottom=0, top=_loss_limit(panel))
    elif panel.title == "learning rate":
        axes.set_ylim(bottom=0)
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    if len(panel.lines) > 1 or "val" not in panel.lines:
        axes.legend(frameon=False, fontsize=8.5, labelcolor=theme.ink)


def _tidy(axes: Axes, theme: Theme) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    theme.tidy(axes)


def _series(rows: Sequence[Row], name: str) -> tuple[list[int], list[float]]:
    points = [(int(row["step"]), float(row[name])) for row in rows if name in row]
    points = [(step, value) for step, value in points if math.isfinite(value)]
    return [step for step, _ in points], [value for _, value in points]


def _is_rate(name: str) -> bool:
    return name.startswith("lr-") and not name.endswith(("-momentum", "-weight_decay"))


def _distinct(rates: dict[str, tuple[list[int], list[float]]]) -> dict[str, tuple[list[int], list[float]]]:
    """Parameter groups that share one rate share one line."""
    named: dict[str, tuple[list[int], list[float]]] = {}
    groups: list[tuple[list[str], tuple[list[int], list[float]]]] = []
    for name, line in rates.items():
        short = name.rpartition("/")[2]
        for names, drawn in groups:
            if drawn == line:
                names.append(short)
                break
        else:
            groups.append(([short], line))
    for names, line in groups:
        named[", ".join(names)] = line
    return named


def _smooth(values: Sequence[float]) -> list[float]:
    """Mean of each value and its neighbors, over about a twentieth of the curve."""
    reach = len(values) // 40
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    smoothed = []
    for index in range(len(values)):
        here = min(reach, index, len(values) - 1 - index)
        smoothed.append((sums[index + here + 1] - sums[index - here]) / (2 * here + 1))
    return smoothed


def _loss_limit(panel: _Panel) -> float | None:
    """Keep one wild first value from flattening the rest: cut at twice the 95th percentile."""
    values = sorted(value for _, line in panel.lines.values() for value in line)
    if not values:
        return None
    return min(values[-1] * 1.05, 2 * values[int(0.95 * (len(values) - 1))]) or None


def new_figure(width: float, height: float) -> Figure:
    """A white figure in inches, drawn without a window and without pyplot's global state."""
    figure = Figure(figsize=(width, height), dpi=130, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure
