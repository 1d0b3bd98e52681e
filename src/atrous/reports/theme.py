"""Colors of figures for light and dark pages; the series can be told apart by the color-blind, and in gray."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from matplotlib import rc, rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from atrous.atomic_file import atomic_file


@dataclass(frozen=True)
class Theme:
    """Colors of a page.

    The series are those of Okabe and Ito (Color Universal Design, 2008), lighter on dark pages.

    Attributes:
        suffix: What the names of its files end in.
        page: Background.
        ink: Text and what matters.
        faint: Axes and notes.
        grid: Lines behind data.
        series: Colors of lines and areas, in this order.
        map: Name of matplotlib's color map for magnitudes.
    """

    suffix: str
    page: str
    ink: str
    faint: str
    grid: str
    series: tuple[str, ...]
    map: str = "viridis"

    @property
    def blue(self) -> str:
        """The first series."""
        return self.series[0]

    @property
    def orange(self) -> str:
        """The second series."""
        return self.series[1]

    def tidy(self, axes: Axes, *, grid: Literal["y", "both"] = "y") -> None:
        """Leave out all lines that say nothing."""
        axes.grid(axis=grid, color=self.grid, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.tick_params(length=0, labelsize=8.5, colors=self.ink)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.spines["bottom"].set_color(self.faint)


LIGHT = Theme(
    suffix="",
    page="#ffffff",
    ink="#1f2933",
    faint="#7b8794",
    grid="#e4e7eb",
    series=("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9"),
)
DARK = Theme(
    suffix="_dark",
    page="#0d1117",
    ink="#e6edf3",
    faint="#8b949e",
    grid="#30363d",
    series=("#56b4e9", "#e69f00", "#2fbf9b", "#cc79a7", "#f0e442", "#9fb8d0"),
)
THEMES = (LIGHT, DARK)


def themed_figure(theme: Theme, width: float, height: float) -> Figure:
    """A figure in inches in the colors of a page, drawn without a window and without pyplot's global state."""
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained", facecolor=theme.page)
    FigureCanvasAgg(figure)
    return figure


def rendered(draw: Callable[[Theme], Figure], theme: Theme, *, form: str, name: str = "figure") -> bytes:
    """Draw a figure in the colors of a page; the same data gives the same bytes.

    Args:
        draw: Draws it.
        theme: The colors.
        form: ``svg`` or ``png``.
        name: Of the figure; figures of one page have different ones.
    """
    with rc_context():
        rc("text", color=theme.ink)
        rc("axes", facecolor=theme.page, edgecolor=theme.faint, labelcolor=theme.ink, titlecolor=theme.ink)
        rc("xtick", color=theme.ink)
        rc("ytick", color=theme.ink)
        rc("svg", hashsalt=name, fonttype="path")
        held = io.BytesIO()
        draw(theme).savefig(held, format=form, metadata={"Date": None} if form == "svg" else {"Software": None})
    picture = held.getvalue()
    if form == "svg":  # is text in a repository: no white space at the end of its lines
        picture = b"\n".join(line.rstrip() for line in picture.splitlines()) + b"\n"
    return picture


def write_figures(folder: str | Path, name: str, draw: Callable[[Theme], Figure]) -> list[Path]:
    """Draw a figure for light and dark pages, each as SVG and PNG; the same data gives the same bytes.

    Args:
        folder: Where the files go.
        name: Theirs, before what tells them apart.
        draw: Draws the figure in the colors of a page.
    """
    files = []
    for theme in THEMES:
        for form in ("svg", "png"):
            files.append(Path(folder) / f"{name}{theme.suffix}.{form}")
            with atomic_file(files[-1]) as file:
                file.write(rendered(draw, theme, form=form, name=name))
    return files
