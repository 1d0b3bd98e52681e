"""Logits of whole images that are computed where and when somebody reads them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from atrous.autocast import without_autocast
from atrous.geometry import Grid, Size, pixels_of
from atrous.models.upsamplers.upsampler import Upsampler


class LogitMap:
    """Scores of a batch of images with all that is needed to enlarge them, some rows at a time.

    B×C×H×W logits of a 4000×6000 image with 150 classes are 14 GB; its scores at output stride 16 are 56 MB.

    Args:
        scores: The head's result B×D×h×w for the extended images.
        upsampler: Makes logits from scores.
        grid: Grid of the network, on which images are resized.
        size: Height and width of the images.
        extended: Height and width that they were extended to.

    Attributes:
        batch: Number of images B.
        num_classes: Number of classes C.
        size: Height and width of the images.
    """

    def __init__(
        self, scores: Tensor, upsampler: Upsampler, *, num_classes: int, grid: Grid, size: Size, extended: Size
    ) -> None:
        # a network of half precision has an upsampler of half precision; otherwise logits have at least float32
        at_least = torch.promote_types(scores.dtype, torch.float32)
        self._scores = scores.to(next((weight.dtype for weight in upsampler.parameters()), at_least))
        self._upsampler = upsampler
        self._grid = grid
        self._extended = extended
        self.num_classes = num_classes
        self.size = size

    @property
    def batch(self) -> int:
        """Number of images."""
        return len(self._scores)

    @property
    def device(self) -> torch.device:
        """Where the scores lie."""
        return self._scores.device

    def rows(self, rows: slice, size: Size | None = None) -> Tensor:
        """Logits of n rows, B×C×n×W.

        Args:
            rows: Which rows.
            size: Height and width that the images are brought to; ``None`` for their own.
        """
        height, width = size or self.size
        down = self._grid.places(pixels_of(height)[rows], height, self.size[0])
        return self.at(down, self._grid.places(pixels_of(width), width, self.size[1]))

    def at(self, down: Tensor, across: Tensor) -> Tensor:
        """Logits at places between the pixels, B×C×n×m.

        Args:
            down: n ascending places along the images' height in pixels, float64.
            across: m ascending places along their width.
        """
        with without_autocast(self.device.type):
            return self._upsampler.at(self._scores, self._extended, down, across).float()

    def split(self, batch: int) -> Iterator[LogitMap]:
        """Maps of every ``batch`` images in turn."""
        for scores in torch.split(self._scores, batch):
            yield LogitMap(
                scores,
                self._upsampler,
                num_classes=self.num_classes,
                grid=self._grid,
                size=self.size,
                extended=self._extended,
            )
