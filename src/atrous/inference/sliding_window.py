"""Large images in windows that overlap (Cityscapes crops of the papers; PSPNet, supplement)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from atrous.errors import AtrousError, require_range
from atrous.geometry import Grid, Size, pixels_of, size_of
from atrous.inference.bands import bands_of
from atrous.inference.fixed_size import positive_size
from atrous.inference.inference import Band, FreeSize, Inference, InferenceProtocol, Wrapper
from atrous.inference.whole_image import WholeImage
from atrous.models.logit_map import LogitMap
from atrous.models.network import Network

Blend = Literal["flat", "gaussian"]

_SPREAD = 8
"""Standard deviations of the Gaussian along a side of a window."""


class SlidingWindow(FreeSize):
    """Class probabilities of windows, averaged where they overlap.

    Windows lie ``stride`` pixels apart; the last one of a row or column ends on the image's border. An image that is
    smaller than a window along a side has one window there, of its own size. Windows are computed from top to bottom,
    and let go when nothing below needs them.

    Args:
        size: Height and width of a window in pixels, or one number for both: the crop that the network was
            trained with.
        stride: Pixels from one window to the next, down and across; ``None`` for two thirds of the size.
        blend: Weights of a window's pixels: all the same (``flat``), or a ``gaussian`` around its middle with a
            standard deviation of an eighth of its side, because borders see half of their surroundings.
        windows_at_once: Windows of an image that go through the network together.

    Raises:
        AtrousError: A number is out of range, windows leave gaps, or the blend is unknown.
    """

    def __init__(
        self,
        *,
        size: int | Sequence[int] = 513,
        stride: int | Sequence[int] | None = None,
        blend: Blend = "flat",
        windows_at_once: int = 4,
    ) -> None:
        self.size = positive_size("window size", size)
        self.stride = (
            (max(1, 2 * self.size[0] // 3), max(1, 2 * self.size[1] // 3))
            if stride is None
            else positive_size("window stride", stride)
        )
        self.blend = blend
        self.windows_at_once = windows_at_once
        if self.stride[0] > self.size[0] or self.stride[1] > self.size[1]:
            raise AtrousError(
                f"windows of {self.size[0]}×{self.size[1]} pixels leave gaps at a stride of "
                f"{self.stride[0]}×{self.stride[1]}: set a stride that is at most their size"
            )
        if blend not in get_args(Blend):
            raise AtrousError(f"inference.blend={blend} is unknown: choose flat or gaussian")
        require_range("windows_at_once", windows_at_once, at_least=1)

    def wrap(self, inference: Inference) -> Inference:
        """Look through windows where an inference looks at whole images.

        Raises:
            AtrousError: It looks through windows already.
        """
        if isinstance(inference, Wrapper):
            return inference.around(self.wrap(inference.inner))
        if not isinstance(inference, WholeImage):
            raise AtrousError("a sliding window is asked for twice: by inference and by callbacks, or by two callbacks")
        return self

    @property
    def protocol(self) -> InferenceProtocol:
        """Size, stride and blend."""
        return {"window": self.size, "window_stride": self.stride, "window_blend": self.blend}

    def bands(self, network: Network, image: Tensor, size: Size | None = None) -> Iterator[Band]:
        """Class probabilities; see ``FreeSize``."""
        own = size_of(image)
        size = size or own
        grid = network.grid
        down, across = (
            list(_spans(grid, *extents, blend=self.blend))
            for extents in zip(size, own, self.size, self.stride, strict=True)
        )
        total_down, total_across = _total(down, size[0], image.device), _total(across, size[1], image.device)
        coming, seen = deque(down), deque[tuple[_Span, list[LogitMap]]]()
        for rows in bands_of(size, len(image) * network.num_classes, image.device):
            while coming and coming[0].pixels.start < rows.stop:
                span = coming.popleft()
                seen.append((span, self._maps(network, image, span, across)))
            while seen[0][0].pixels.stop <= rows.start:
                seen.popleft()
            total = image.new_zeros(
                (len(image), network.num_classes, rows.stop - rows.start, size[1]), dtype=torch.float32
            )
            for span, maps in seen:
                _add(total, rows, span, across, maps)
            yield rows, total.div_(total_down[rows, None] * total_across)

    def _maps(self, network: Network, image: Tensor, span: _Span, across: Sequence[_Span]) -> list[LogitMap]:
        """Logits of a row of windows, from left to right."""
        maps: list[LogitMap] = []
        for first in range(0, len(across), self.windows_at_once):
            spans = across[first : first + self.windows_at_once]
            windows = torch.cat([image[..., span.source, each.source] for each in spans])
            maps += network.logit_map(windows).split(len(image))
        return maps


class _Span(NamedTuple):
    """One side of a window.

    Attributes:
        source: Its pixels in the image.
        pixels: The pixels of the result that lie in it.
        places: Where these lie, in pixels from the window's first one.
        weights: How much they count.
    """

    source: slice
    pixels: slice
    places: Tensor
    weights: Tensor


def _spans(grid: Grid, pixels: int, side: int, window: int, stride: int, *, blend: Blend) -> Iterator[_Span]:
    """Windows along a side of ``side`` pixels, whose result has ``pixels``; those without any are left out."""
    window = min(window, side)
    places = grid.places(pixels_of(pixels), pixels, side)
    for start in [*range(0, side - window, stride), side - window]:
        inside = torch.nonzero((places >= start - 0.5) & (places < start + window - 0.5)).flatten()
        if not len(inside):
            continue
        covered = slice(int(inside[0]), int(inside[-1]) + 1)
        # between two windows that do not overlap, the outermost pixels' probabilities go on for half a pixel
        local = (places[covered] - start).clamp(0, window - 1)
        weights = torch.ones_like(local)
        if blend == "gaussian":
            weights = torch.exp(-0.5 * ((local - (window - 1) / 2) / (window / _SPREAD)) ** 2)
        yield _Span(slice(start, start + window), covered, local, weights)


def _total(spans: Sequence[_Span], pixels: int, device: torch.device) -> Tensor:
    """Sum of the weights of every pixel of a side; over both sides the sum is the product."""
    total = torch.zeros(pixels, dtype=torch.float64)
    for span in spans:
        total[span.pixels] += span.weights
    return total.to(device, torch.float32)


def _add(total: Tensor, rows: slice, down: _Span, across: Sequence[_Span], maps: Sequence[LogitMap]) -> None:
    """Add what a row of windows says about some rows of the result."""
    first, last = max(rows.start, down.pixels.start), min(rows.stop, down.pixels.stop)
    if first >= last:
        return
    within = slice(first - down.pixels.start, last - down.pixels.start)
    for span, logits in zip(across, maps, strict=True):
        probabilities = logits.at(down.places[within], span.places).softmax(dim=1)  # B×C×n×m
        weights = (down.weights[within, None] * span.weights).to(total)
        total[:, :, first - rows.start : last - rows.start, span.pixels] += probabilities.mul_(weights)
