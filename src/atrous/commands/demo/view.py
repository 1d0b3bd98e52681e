"""A labeled photograph as a piece of a page: mask over photograph, legend, and numbers to read with the pointer."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from jinja2 import Environment
from numpy.typing import NDArray
from PIL import Image

from atrous.commands.demo.labeler import Labeled
from atrous.data.label_space import LabelSpace
from atrous.reports.pages.page import address

STYLE = Path(__file__).with_name("view.css").read_text(encoding="utf-8")
SCRIPT = Path(__file__).with_name("view.js").read_text(encoding="utf-8")

_PIECE = Environment(autoescape=True).from_string(Path(__file__).with_name("view.html").read_text(encoding="utf-8"))

EMPTY = "<p>The mask appears here, over the photograph.</p>"


def view_of(labeled: Labeled, space: LabelSpace, about: str) -> str:
    """The piece, without anything from elsewhere.

    Args:
        labeled: The photograph.
        space: Names and colors of its classes.
        about: How it was labeled.
    """
    height, width = labeled.labels.shape
    numbers = np.zeros((height, width, 3), np.uint8)
    numbers[..., 0], numbers[..., 1] = labeled.labels, labeled.confidence
    return _PIECE.render(
        width=width,
        height=height,
        classes=space.classes,
        photograph=_source(labeled.photograph, "JPEG"),
        mask=_source(space.colorize(labeled.labels), "PNG"),
        numbers=_source(numbers, "PNG"),
        legend=_legend(labeled.labels, space),
        about=about,
    )


def _legend(labels: NDArray[np.uint8], space: LabelSpace) -> list[tuple[str, str, float]]:
    """Name, color and share in percent of the classes that occur, the most frequent first."""
    counts = np.bincount(labels.ravel(), minlength=space.num_classes)
    ranked = [int(label) for label in np.argsort(-counts, kind="stable") if counts[label]]
    colors = ["#{:02x}{:02x}{:02x}".format(*space.palette[label]) for label in ranked]
    return [
        (space.classes[label], color, 100 * counts[label] / labels.size)
        for label, color in zip(ranked, colors, strict=True)
    ]


def _source(pixels: NDArray[np.uint8], kind: str) -> str:
    file = BytesIO()
    Image.fromarray(pixels).save(file, format=kind, **({"quality": 90} if kind == "JPEG" else {}))
    return address(file.getvalue(), kind.lower())
