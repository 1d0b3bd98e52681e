"""PAMR: every pixel's probabilities become a mean of those around it that have its color, again and again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from atrous.crf.kernels import require_image
from atrous.crf.refiner import Refiner, refined_where_likely
from atrous.errors import require_range
from atrous.geometry import size_of

_AROUND = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]


class PAMR(Refiner):
    """Pixel-adaptive mask refinement (Araslanov and Roth, CVPR 2020, §3.3).

    A pixel has eight neighbors at each of several distances. Their weights are a softmax of −|I − I'| / (0.1 · σ),
    averaged over the channels of color, where σ is the standard deviation of the channel over all of them and the pixel
    itself. Beyond the border lies the border's own row or column.

    Args:
        iterations: How often probabilities are averaged.
        distances: From a pixel to its neighbors, in pixels.
        prune: Classes that reach this probability nowhere in an image are passed over; ``None`` for none. Means stay
            below it too, so no label changes unless there are as many classes as 1 / prune.

    Raises:
        AtrousError: A value is impossible.
    """

    def __init__(
        self, *, iterations: int = 10, distances: Sequence[int] = (1, 2, 4, 8, 12, 24), prune: float | None = 0.01
    ) -> None:
        super().__init__()
        require_range("iterations", iterations, at_least=0)
        require_range("distances", list(distances) or None, at_least=1)
        require_range("prune", prune, above=0, below=1)
        self.iterations = iterations
        self.distances = tuple(distances)
        self.prune = prune

    @property
    def description(self) -> str:
        """See ``Refiner``."""
        said = f"PAMR {'-'.join(map(str, self.distances))}, {self.iterations} iterations"
        return said if self.prune is None else f"{said}, classes from {self.prune:g}"

    def refine(self, probabilities: Tensor, image: Tensor) -> Tensor:
        """See ``Refiner``."""
        require_image(image, probabilities)
        if not self.distances:
            return probabilities
        return refined_where_likely(probabilities, image.float(), self._averaged, least=self.prune)

    def _averaged(self, probabilities: Tensor, color: Tensor) -> Tensor:
        """Of one image; colors of 0…255."""
        affinity = self._affinity(color)  # B×neighbors×H×W
        for _ in range(self.iterations):
            total = torch.zeros_like(probabilities)
            for weight, near in zip(affinity.unbind(dim=1), self._neighbors(probabilities), strict=True):
                total.addcmul_(near, weight[:, None])
            probabilities = total
        return probabilities

    def _affinity(self, color: Tensor) -> Tensor:
        """Weights of all neighbors; those of a pixel sum up to 1."""
        count = len(self.distances) * len(_AROUND)
        own = len(self.distances)  # the pixel itself lies in the square of each distance
        total, squares = own * color, own * color.square()
        for near in self._neighbors(color):
            total, squares = total + near, squares + near.square()
        seen = count + own
        variance = (squares - total.square() / seen) / (seen - 1)
        scale = 1e-8 + 0.1 * variance.clamp(min=0).sqrt()
        distance = [-((color - near).abs() / scale).mean(dim=1) for near in self._neighbors(color)]
        return torch.stack(distance, dim=1).softmax(dim=1)

    def _neighbors(self, values: Tensor) -> Iterator[Tensor]:
        """The values of one neighbor of all pixels after the other, B×C×H×W."""
        height, width = size_of(values)
        for distance in self.distances:
            padded = F.pad(values, [distance] * 4, mode="replicate")
            for down, across in _AROUND:
                top, left = distance * (1 + down), distance * (1 + across)
                yield padded[..., top : top + height, left : left + width]
