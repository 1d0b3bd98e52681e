"""Pages to look at in a browser: one file each, which needs no network, for light and dark screens and for paper."""

from __future__ import annotations

import base64
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from atrous.atomic_file import atomic_file
from atrous.data.label_space import IGNORE_COLOR
from atrous.reports.tables import percent
from atrous.reports.theme import DARK, LIGHT, Theme, rendered


class Picture(NamedTuple):
    """A figure as the addresses of two pictures that hold it.

    Attributes:
        light: For light pages and paper.
        dark: For dark pages.
    """

    light: str
    dark: str


def picture(name: str, draw: Callable[[Theme], Figure]) -> Picture:
    """Draw a figure for a page.

    Args:
        name: Of the figure.
        draw: Draws it in the colors of a page.
    """
    return Picture(*(address(rendered(draw, theme, form="svg", name=name), "svg+xml") for theme in (LIGHT, DARK)))


def address(content: bytes, form: str) -> str:
    """An address that holds a picture itself.

    Args:
        content: The bytes of its file.
        form: Its kind, such as ``webp``.
    """
    return f"data:image/{form};base64,{base64.b64encode(content).decode()}"


def write_page(path: str | Path, template: str, **values: Any) -> None:
    """Fill in a template; whatever is text in ``values`` shows as it is, whatever signs are in it.

    Args:
        path: The file to write.
        template: Name of a file in ``templates``.
        values: What it shows.
    """
    page = _environment().get_template(template).render(**values, ignored=IGNORE_COLOR)
    with atomic_file(path) as file:
        file.write(page.encode())


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("atrous.reports.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "sortable": _sortable, "width": _width}
    return environment


def _sortable(value: float) -> str:
    """What a cell is sorted by; one without a number comes first."""
    return "-1" if math.isnan(value) else f"{value:.6f}"


def _width(value: float) -> str:
    return "0" if math.isnan(value) else f"{100 * value:.1f}%"
