"""Labels of one code for 32×32 pixels, reconstructed: by bilinear interpolation, and by the W of DUpsampling."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from atrous.commands.figures.source import Source
from atrous.commands.prepare.tasks.upper_bound import bilinear_reconstruction
from atrous.models.label_code import fit_closed_form
from atrous.reports.theme import Theme, themed_figure

_RATIO = 32
_WIDTHS = (16, 64, 256)


def figure(source: Source) -> Callable[[Theme], Figure]:
    """What the codes of DUpsampling §3.1 keep of a mask, fitted to the other masks."""
    dataset = source.images
    space = dataset.label_space
    masks = [dataset.mask(index) for index in range(len(dataset))]
    shown = masks.pop(max(range(len(masks)), key=lambda index: _borders(masks[index])))
    labeled = shown != space.ignore_index
    size = (shown.shape[0], shown.shape[1])
    pictures: dict[str, NDArray[np.uint8]] = {"truth": shown}
    for width in _WIDTHS:
        code = fit_closed_form(masks, num_classes=space.num_classes, ratio=_RATIO, width=width, passes=6)
        if "bilinear" not in pictures:
            pictures["bilinear"] = _labels(bilinear_reconstruction(shown, code, means=True))
        pictures[f"{width} numbers"] = _labels(code.reconstruct(code.compress(shown), size))
    right = {name: float((labels == shown)[labeled].mean()) for name, labels in pictures.items()}

    def draw(theme: Theme) -> Figure:
        drawn = themed_figure(theme, 8.4, 0.5 + 8.4 / len(pictures) * size[0] / size[1])
        for place, (name, labels) in enumerate(pictures.items(), start=1):
            axes = drawn.add_subplot(1, len(pictures), place)
            axes.imshow(space.colorize(np.where(labeled, labels, space.ignore_index).astype(np.uint8)))
            axes.set_title(name if name == "truth" else f"{name}: {right[name]:.1%}", fontsize=9, loc="left")
            axes.set_axis_off()
        return drawn

    return draw


def _labels(evidence: torch.Tensor) -> NDArray[np.uint8]:
    return np.asarray(evidence.argmax(dim=0).numpy(), dtype=np.uint8)


def _borders(mask: NDArray[np.uint8]) -> int:
    """How many neighbors have different classes, neither of them void."""
    different = (mask[:, 1:] != mask[:, :-1]) & (mask[:, 1:] != 255) & (mask[:, :-1] != 255)
    return int(different.sum()) * len(np.unique(mask))
