"""Score map and belief map of one class after 0, 1, 2, 5 and 10 iterations of the dense CRF."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.figure import Figure

from atrous.commands.figures.source import Source, image_of, largest_class
from atrous.crf import DenseCRF
from atrous.reports.theme import Theme, themed_figure

_ITERATIONS = (0, 1, 2, 5, 10)


def figure(source: Source) -> Callable[[Theme], Figure]:
    """Figure 2 of DeepLabv1 (§4.2): scores are what the softmax takes, beliefs what it gives."""
    dataset = source.seen
    found = [dataset[index] for index in range(min(40, len(dataset)))]
    sample = max(found, key=lambda each: _objects(each.mask))
    shown = largest_class(sample.mask)
    image, unary = image_of(sample), source.probabilities(sample)
    maps = []
    for iterations in _ITERATIONS:
        logits = DenseCRF(iterations=iterations)(unary, image, takes="probabilities")[0]
        belief = logits.softmax(dim=0)[shown].numpy()
        logits = logits - logits.mean(dim=0)
        maps.append((logits[shown].numpy(), belief))
    name = dataset.label_space.classes[shown]

    def draw(theme: Theme) -> Figure:
        height, width = sample.mask.shape
        across = len(_ITERATIONS) + 1
        drawn = themed_figure(theme, 9.6, 0.9 + 2 * 9.6 / across * height / width)
        axes = drawn.add_subplot(2, across, 1)
        axes.imshow(sample.image)
        axes.set_title("image", fontsize=9, loc="left")
        axes.set_axis_off()
        axes = drawn.add_subplot(2, across, across + 1)
        axes.imshow(sample.mask == shown, cmap="gray")
        axes.set_title(f"truth: {name}", fontsize=9, loc="left")
        axes.set_axis_off()
        top = float(np.abs(maps[-1][0]).max())
        for place, (iterations, (score, belief)) in enumerate(zip(_ITERATIONS, maps, strict=True), start=2):
            for row, (pixels, cmap, low, high) in enumerate(((score, "RdBu_r", -top, top), (belief, "magma", 0, 1))):
                axes = drawn.add_subplot(2, across, row * across + place)
                axes.imshow(pixels, cmap=cmap, vmin=low, vmax=high)
                what = "score" if row == 0 else "belief"
                axes.set_title(f"{what}, {iterations}" if place > 2 else f"{what}, no CRF", fontsize=9, loc="left")
                axes.set_axis_off()
        return drawn

    return draw


def _objects(mask: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> float:
    """How well a mask shows what a CRF does: the share of a class with long borders, that does not fill the image."""
    here = mask == largest_class(mask)
    share = float(here.mean())
    borders = int((here[:, 1:] != here[:, :-1]).sum())
    return borders if 0.05 < share < 0.4 else 0.0
