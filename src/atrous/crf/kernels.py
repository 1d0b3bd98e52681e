"""The kernels of a CRF: which pixels are near to each other, and how much that counts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from atrous.errors import AtrousError, require_range
from atrous.geometry import Size, size_of

Weight = float | Sequence[float] | Sequence[Sequence[float]]
"""One number, one for each class, or C×C: what class j nearby adds to the score of class i (row i, column j)."""

Normalization = Literal["symmetric", "after", "before", "none"]


@dataclass(frozen=True, kw_only=True)
class Kernel(ABC):
    """How near any two pixels are to each other, times a weight.

    Attributes:
        weight: How much a class gains from the same class nearby (see ``Weight``).
        of_image: Whether nearness depends on the image, or on its size alone.
    """

    of_image: ClassVar[bool]

    weight: Weight = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", _frozen(self.weight))

    @abstractmethod
    def __str__(self) -> str:
        """Weight and standard deviations, such as ``4/67/3``."""

    @abstractmethod
    def scaled(self, factor: float) -> Kernel:
        """The same on an image that was resized by a factor."""


class FeatureKernel(Kernel):
    """A Gaussian over features of pixels, exp(−|f − f'|² / 2)."""

    @abstractmethod
    def features(self, image: Tensor) -> Tensor:
        """Features in units of their standard deviations.

        Args:
            image: B×3×H×W, 0…255.

        Returns:
            B×N×d, float32, where N = H·W counts pixels row by row.
        """


@dataclass(frozen=True, kw_only=True)
class Gaussian(FeatureKernel):
    """Smoothness: pixels are near to each other in the image (the second kernel of DeepLabv1 equation 3).

    Attributes:
        sigma: σ_γ, the standard deviation in pixels.
        weight: w₂.
    """

    of_image = False

    sigma: float = 3.0
    weight: Weight = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_range("crf sigma", self.sigma, above=0)

    def features(self, image: Tensor) -> Tensor:
        """Place (x, y); see ``FeatureKernel``."""
        place = _places(size_of(image), image.device).div(self.sigma)
        return place.expand(len(image), -1, -1)

    def __str__(self) -> str:
        return f"{_in_short(self.weight)}/{self.sigma:g}"

    def scaled(self, factor: float) -> Gaussian:
        """See ``Kernel``."""
        return Gaussian(sigma=self.sigma * factor, weight=self.weight)


@dataclass(frozen=True, kw_only=True)
class Bilateral(FeatureKernel):
    """Appearance: pixels are near to each other and have nearly one color (the first kernel of DeepLabv1 equation 3).

    Attributes:
        sigma_xy: σ_α, the standard deviation of the place in pixels.
        sigma_rgb: σ_β, that of the color in levels of 0…255.
        weight: w₁.
    """

    of_image = True

    sigma_xy: float = 67.0
    sigma_rgb: float = 3.0
    weight: Weight = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_range("crf sigma_xy", self.sigma_xy, above=0)
        require_range("crf sigma_rgb", self.sigma_rgb, above=0)

    def features(self, image: Tensor) -> Tensor:
        """Place and color (x, y, r, g, b); see ``FeatureKernel``."""
        place = _places(size_of(image), image.device).div(self.sigma_xy)
        color = image.flatten(2).transpose(1, 2).float().div(self.sigma_rgb)  # B×N×3
        return torch.cat([place.expand(len(image), -1, -1), color], dim=2)

    def __str__(self) -> str:
        return f"{_in_short(self.weight)}/{self.sigma_xy:g}/{self.sigma_rgb:g}"

    def scaled(self, factor: float) -> Bilateral:
        """See ``Kernel``."""
        return Bilateral(sigma_xy=self.sigma_xy * factor, sigma_rgb=self.sigma_rgb, weight=self.weight)


@dataclass(frozen=True, kw_only=True)
class Neighbors(Kernel):
    """Short range: a pixel is near to those next to it, the more so the more their colors are alike.

    CRFs of this kind were what segmentation used before; they smooth noisy scores, but do not recover fine borders
    (DeepLabv1 §4.2). The nearness is exp(−|I − I'|² / 2 σ²) / |p − p'|.

    Attributes:
        count: 4 neighbors, or 8 with those on the diagonals.
        sigma_rgb: σ in levels of 0…255; ``None`` for neighbors that are near whatever their colors.
        weight: Weight of the kernel.
    """

    of_image = True

    count: Literal[4, 8] = 8
    sigma_rgb: float | None = 10.0
    weight: Weight = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_range("crf sigma_rgb", self.sigma_rgb, above=0)
        if self.count not in (4, 8):
            raise AtrousError(f"a pixel has 4 or 8 neighbors in a short-range CRF, not {self.count}")

    def __str__(self) -> str:
        return f"{_in_short(self.weight)}/{self.count} neighbors" + (f"/{self.sigma_rgb:g}" if self.sigma_rgb else "")

    def scaled(self, factor: float) -> Neighbors:
        """See ``Kernel``; neighbors stay neighbors."""
        return self

    def steps(self) -> tuple[tuple[int, int], ...]:
        """Rows and columns from a pixel to the half of its neighbors that come after it."""
        return ((0, 1), (1, 0)) if self.count == 4 else ((0, 1), (1, 0), (1, 1), (1, -1))


def _frozen(weight: Any) -> Any:
    """Without lists, so that kernels can be compared and kept by their values."""
    return tuple(map(_frozen, weight)) if isinstance(weight, Sequence) else float(weight)


def _in_short(weight: Weight) -> str:
    return f"{weight:g}" if isinstance(weight, float) else "given"


def _places(size: Size, device: torch.device) -> Tensor:
    """Column and row of every pixel, N×2, float32."""
    rows, columns = (torch.arange(side, device=device, dtype=torch.float32) for side in size)
    return torch.cartesian_prod(rows, columns).flip(1)


def require_image(image: Tensor, scores: Tensor | None = None) -> None:
    """Refuse what is no picture of 0…255, or not of the scores' size.

    Raises:
        AtrousError: It has another shape or range than the kernels' standard deviations are made for.
    """
    if image.dim() != 4 or image.shape[1] != 3:
        raise AtrousError(f"the CRF needs images B×3×H×W, but got {_said(image)}")
    if scores is not None and (scores.dim() != 4 or len(scores) != len(image) or size_of(scores) != size_of(image)):
        raise AtrousError(
            f"the CRF needs scores B×C×H×W and images B×3×H×W of one size, but got {_said(scores)} and {_said(image)}"
        )
    if image.dtype == torch.uint8 or image.numel() == 0:
        return
    low, high = (float(bound) for bound in torch.aminmax(image))
    # interpolation may leave the range by a rounding
    if not (low >= -0.5 and high <= 255.5) or (image.is_floating_point() and 0 < high <= 1):
        raise AtrousError(
            f"the CRF needs colors of 0…255, because sigma_rgb counts such levels, but those of this image lie between "
            f"{low:g} and {high:g}: multiply an image of 0…1 by 255, and undo a normalization"
        )


def _said(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a single number"
