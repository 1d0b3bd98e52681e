"""The guided filter: probabilities that are, near every pixel, a linear function of its color."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from atrous.crf.approximations import resized, smaller
from atrous.crf.kernels import require_image
from atrous.crf.refiner import Refiner, refined_where_likely
from atrous.errors import require_range
from atrous.geometry import size_of


class GuidedFilter(Refiner):
    """Smooths probabilities where the image is smooth, and keeps their edges on its edges (He, Sun and Tang 2013).

    In each square window the probabilities of a class are fitted by a·I + b with the colors I; a pixel gets the mean of
    the fits of all windows that it is in. It takes the same time for any radius. The fits are smooth, so they are made
    on a smaller image and enlarged (the fast guided filter of He and Sun, arXiv 1505.00996).

    Args:
        radius: The window has 2·radius + 1 pixels along each side.
        epsilon: What makes a small, ε of colors of 0…1: variances below it count as flat.
        subsampling: How many times smaller the image of the fits is along each side, where the radius is rounded to
            whole pixels; 1 for the exact filter.
        prune: Classes that reach this probability nowhere in an image are passed over; ``None`` for none.

    Raises:
        AtrousError: A value is impossible.
    """

    def __init__(
        self, *, radius: int = 8, epsilon: float = 1e-3, subsampling: int = 4, prune: float | None = 0.01
    ) -> None:
        super().__init__()
        require_range("radius", radius, at_least=1)
        require_range("epsilon", epsilon, above=0)
        require_range("subsampling", subsampling, at_least=1, at_most=radius)
        require_range("prune", prune, above=0, below=1)
        self.radius = radius
        self.epsilon = epsilon
        self.subsampling = subsampling
        self.prune = prune

    @property
    def description(self) -> str:
        """See ``Refiner``."""
        said = f"guided filter {self.radius}/{self.epsilon:g}"
        said += "" if self.subsampling == 1 else f" at 1/{self.subsampling} of the size"
        return said if self.prune is None else f"{said}, classes from {self.prune:g}"

    def refine(self, probabilities: Tensor, image: Tensor) -> Tensor:
        """See ``Refiner``."""
        require_image(image, probabilities)
        return refined_where_likely(probabilities, image.float() / 255, self._filtered, least=self.prune)

    def _filtered(self, beliefs: Tensor, guide: Tensor) -> Tensor:
        """Beliefs of one image 1×c×H×W; colors of 0…1."""
        size = size_of(guide)
        small = smaller(size, 1 / self.subsampling)
        slopes, offsets = self._fits(resized(beliefs, small), resized(guide, small))
        filtered = F.interpolate(offsets, size, mode="bilinear", align_corners=False)
        for channel in range(3):
            slope = F.interpolate(slopes[:, :, channel], size, mode="bilinear", align_corners=False)
            filtered.addcmul_(slope, guide[:, [channel]])
        return filtered.clamp_(min=0)

    def _fits(self, beliefs: Tensor, guide: Tensor) -> tuple[Tensor, Tensor]:
        """Mean slopes B×c×3×h×w and offsets B×c×h×w of the windows that pixels are in."""
        mean, belief = self._mean(guide), self._mean(beliefs)
        pairs = torch.stack([self._mean(guide * guide[:, [i]]) - mean * mean[:, [i]] for i in range(3)], dim=1)
        spread = pairs.permute(0, 3, 4, 1, 2) + self.epsilon * torch.eye(3, device=guide.device)  # B×h×w×3×3
        products = [self._mean(beliefs * guide[:, [i]]) - belief * mean[:, [i]] for i in range(3)]
        covariance = torch.stack(products, dim=1).permute(0, 3, 4, 1, 2)  # B×h×w×3×c
        slopes = torch.linalg.solve(spread, covariance).permute(0, 4, 3, 1, 2)  # B×c×3×h×w
        offsets = belief - (slopes * mean[:, None]).sum(dim=2)
        return self._mean(slopes.flatten(0, 1)).view_as(slopes), self._mean(offsets)

    def _mean(self, values: Tensor) -> Tensor:
        """Means over the windows, of the pixels that lie in the image: columns first, then rows."""
        radius = max(1, round(self.radius / self.subsampling))
        for side in (2, 3):
            width = values.shape[side]
            total = F.pad(values.double().cumsum(dim=side), (1, 0) if side == 3 else (0, 0, 1, 0))
            place = torch.arange(width, device=values.device)
            first, end = (place - radius).clamp(min=0), (place + radius + 1).clamp(max=width)
            count = (end - first).view((-1, 1) if side == 2 else (-1,))
            values = ((total.index_select(side, end) - total.index_select(side, first)) / count).to(values.dtype)
        return values
