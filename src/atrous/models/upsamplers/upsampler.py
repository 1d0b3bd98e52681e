"""What the Segmentor expects from every upsampler."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from atrous.geometry import Grid, Size, interpolate, linear_weights


class Upsampler(nn.Module, ABC):
    """Class scores, or a code of them, become logits at full resolution.

    Upsamplers are constructed with the keyword arguments ``grid`` (the backbone's grid) and ``num_classes``, besides
    their own.

    Attributes:
        grid: Where scores lie in the image.
        score_channels: Channels that the head must produce.
        ratio: Image pixels per score that the weights are made for; ``None`` where any will do.
        pretrained_names: Name prefixes of the parameters that were fitted beforehand; they learn as fast
            as the backbone, all others as fast as new layers.
    """

    grid: Grid
    score_channels: int
    ratio: int | None = None
    pretrained_names: tuple[str, ...] = ()

    @abstractmethod
    def forward(self, scores: Tensor, size: Size) -> Tensor:
        """Map scores B×D×h×w to logits B×C×H×W of a size.

        Args:
            scores: The head's result, D = ``score_channels``.
            size: Height and width of the extended image: ``s·(h − 1) + 1`` on a grid of points, ``s·h`` of cells.
        """

    def rows(self, scores: Tensor, size: Size, rows: slice) -> Tensor:
        """Some rows of ``forward(scores, size)``, made from the scores near them: B×C×n×W.

        Args:
            scores: B×D×h×w.
            size: Height and width of the extended image.
            rows: The n rows.
        """
        if self.ratio is None:
            logits: Tensor = self(scores, size)
            return logits[:, :, rows]
        # a logit is made from the scores before and after it; one more on both sides keeps the part's borders away
        first = max(0, rows.start // self.ratio - 1)
        last = min(scores.shape[2], -(-rows.stop // self.ratio) + 2)
        part: Tensor = self(scores[:, :, first:last], (self.grid.pixels(last - first, self.ratio), size[1]))
        return part[:, :, rows.start - self.ratio * first : rows.stop - self.ratio * first]

    def at(self, scores: Tensor, size: Size, down: Tensor, across: Tensor) -> Tensor:
        """Logits between the pixels of ``forward(scores, size)``, interpolated linearly: B×C×n×m.

        Args:
            scores: B×D×h×w.
            size: Height and width of the extended image.
            down: n ascending places along its height in pixels, float64.
            across: m ascending places along its width.
        """
        seen, _ = linear_weights(down)
        return interpolate(self.rows(scores, size, seen), down - seen.start, across)
