"""How fields of view grow with rates 1, 2, 4, and which pixels a trained network really looks at, by gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from atrous.commands.figures.source import Source, image_of
from atrous.reports.theme import Theme, themed_figure

_GROWTH = {"rates 1, 1, 1": (1, 1, 1), "rates 1, 2, 4": (1, 2, 4)}
_SIDE = 257
_IMAGES = 8
_SHARE = 0.95


def sides(rates: Sequence[int]) -> list[int]:
    """Side of the field of view after each of some 3×3 convolutions: 3, 7, 15 for rates 1, 2, 4."""
    return [1 + 2 * sum(rates[:count]) for count in range(1, len(rates) + 1)]


def effective_field(respond: Callable[[Tensor], Tensor], images: Sequence[Tensor]) -> NDArray[np.float64]:
    """Mean size of the gradient of the middle response with respect to every pixel (Luo et al. 2016).

    Args:
        respond: From images 1×3×H×W to responses 1×C×h×w.
        images: All of one size.

    Returns:
        H×W, at most 1.
    """
    total: Tensor = torch.zeros(images[0].shape[-2:], dtype=torch.float64)
    for image in images:
        pixels = image.float().requires_grad_()
        response = respond(pixels)
        middle = response[0, :, response.shape[-2] // 2, response.shape[-1] // 2]
        strongest = middle[middle.argmax()]
        (slope,) = torch.autograd.grad(strongest, pixels)
        total += slope[0].abs().sum(dim=0).double()
    return np.asarray((total / total.max()).numpy())


def side_holding(field: NDArray[np.float64], share: float = _SHARE) -> int:
    """Side of the smallest square around the middle that holds a share of the sum."""
    row, column = (extent // 2 for extent in field.shape)
    for reach in range(max(field.shape)):
        inside = field[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1]
        if inside.sum() >= share * field.sum():
            return 2 * reach + 1
    return int(max(field.shape))


def figure(source: Source) -> Callable[[Theme], Figure]:
    """Growth by the arithmetic of DeepLabv2 §3.1, and fields measured in the backbone and the logits of a network."""
    side = min(_SIDE, *(min(source.seen.image_size(index)) for index in range(_IMAGES)))
    images = [_middle(image_of(source.seen[index]), side) for index in range(_IMAGES)]
    network = source.network
    fields = {
        "backbone": effective_field(lambda image: network.backbone(network.preprocess(image))[-1], images),
        "logits": effective_field(network, images),
    }

    def draw(theme: Theme) -> Figure:
        drawn = themed_figure(theme, 8.4, 3.4)
        for place, (name, rates) in enumerate(_GROWTH.items(), start=1):
            axes = drawn.add_subplot(1, 4, place)
            for side, color in zip(reversed(sides(rates)), theme.series[2::-1], strict=True):
                axes.fill_between([-side / 2, side / 2], -side / 2, side / 2, color=color, linewidth=0)
                axes.text(0, side / 2 - 0.9, f"{side}", ha="center", va="center", fontsize=8, color="white")
            axes.set_xlim(-8, 8)
            axes.set_ylim(-8, 8)
            axes.set_aspect("equal")
            axes.set_axis_off()
            axes.set_title(f"three 3×3, {name}", fontsize=9, loc="left")
        for place, (name, field) in enumerate(fields.items(), start=3):
            axes = drawn.add_subplot(1, 4, place)
            axes.imshow(np.sqrt(field), cmap="magma", vmin=0, vmax=1)
            side = side_holding(field)
            middle = [extent / 2 for extent in field.shape]
            low, high = -side / 2, side / 2
            axes.plot(
                [middle[1] + x for x in (low, high, high, low, low)],
                [middle[0] + y for y in (low, low, high, high, low)],
                color="white", linewidth=1.2,
            )  # fmt: skip
            axes.set_xlim(-0.5, field.shape[1] - 0.5)
            axes.set_ylim(field.shape[0] - 0.5, -0.5)
            axes.set_axis_off()
            axes.set_title(f"{name}: 95 % within {side}×{side}", fontsize=9, loc="left")
        return drawn

    return draw


def _middle(image: Tensor, side: int) -> Tensor:
    """A square from the middle of an image."""
    top, left = ((extent - side) // 2 for extent in image.shape[-2:])
    return image[..., top : top + side, left : left + side]
