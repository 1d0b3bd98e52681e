"""The guided filter: probabilities that are, near every pixel, a linear function of its color."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from atrous.crf.kernels import require_image
from atrous.crf.refiner import Refiner
from atrous.errors import require_range


class GuidedFilter(Refiner):
    """Smooths probabilities where the image is smooth, and keeps their edges on its edges (He, Sun and Tang 2013).

    In each square window the probabilities of a class are fitted by a·I + b with the colors I; a pixel gets the mean of
    the fits of all windows that it is in. It takes the same time for any radius.

    Args:
        radius: The window has 2·radius + 1 pixels along each side.
        epsilon: What makes a small, ε of colors of 0…1: variances below it count as flat.

    Raises:
        AtrousError: A value is impossible.
    """

    def __init__(self, *, radius: int = 8, epsilon: float = 1e-3) -> None:
        super().__init__()
        require_range("radius", radius, at_least=1)
        require_range("epsilon", epsilon, above=0)
        self.radius = radius
        self.epsilon = epsilon

    @property
    def description(self) -> str:
        """See ``Refiner``."""
        return f"guided filter {self.radius}/{self.epsilon:g}"

    def refine(self, probabilities: Tensor, image: Tensor) -> Tensor:
        """See ``Refiner``."""
        require_image(image, probabilities)
        guide = image.float() / 255  # B×3×H×W
        mean = self._mean(guide)
        pairs = torch.stack([self._mean(guide * guide[:, [i]]) - mean * mean[:, [i]] for i in range(3)], dim=1)
        spread = pairs.permute(0, 3, 4, 1, 2) + self.epsilon * torch.eye(3, device=image.device)  # B×H×W×3×3
        inverse = torch.linalg.inv(spread).permute(0, 3, 4, 1, 2)  # B×3×3×H×W
        refined = torch.empty_like(probabilities)
        for label in range(probabilities.shape[1]):
            belief = probabilities[:, [label]]
            covariance = self._mean(guide * belief) - mean * self._mean(belief)  # B×3×H×W
            slope = (inverse * covariance[:, None]).sum(dim=2)
            offset = self._mean(belief) - (slope * mean).sum(dim=1, keepdim=True)
            refined[:, [label]] = (self._mean(slope) * guide).sum(dim=1, keepdim=True) + self._mean(offset)
        refined = refined.clamp(min=0)
        return refined / refined.sum(dim=1, keepdim=True).clamp(min=torch.finfo(refined.dtype).tiny)

    def _mean(self, values: Tensor) -> Tensor:
        """Means over the windows, of the pixels that lie in the image: columns first, then rows."""
        for side in (2, 3):
            width = values.shape[side]
            total = F.pad(values.double().cumsum(dim=side), (1, 0) if side == 3 else (0, 0, 1, 0))
            place = torch.arange(width, device=values.device)
            first, end = (place - self.radius).clamp(min=0), (place + self.radius + 1).clamp(max=width)
            count = (end - first).view((-1, 1) if side == 2 else (-1,))
            values = ((total.index_select(side, end) - total.index_select(side, first)) / count).to(values.dtype)
        return values
