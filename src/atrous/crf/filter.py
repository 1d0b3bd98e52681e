"""Kernels as linear maps over all pixels: Gaussians on a lattice (splat, blur, slice), and sums of neighbors."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from atrous.crf.kernels import Neighbors, Normalization
from atrous.crf.lattice import Lattice

_Part = tuple[slice, slice, slice]

_TINY = 1e-20
"""Keeps the scale of a pixel without any neighbor finite, as in the authors' code."""


class Filter(Protocol):
    """A kernel of a CRF as a linear map over all pixels."""

    def __call__(self, values: Tensor, *, transposed: bool = False) -> Tensor:
        """Sum up what every pixel gets from all of them, or apply the transposed map.

        Args:
            values: N×C.
            transposed: The map that gradients take.

        Returns:
            N×C.
        """


class LatticeFilter:
    """A Gaussian kernel, normalized, computed by PyTorch's operators.

    Every step is one weighted sum of rows (``torch.embedding_bag``). Blurs along different axes do not commute where
    vertices are missing, so the transposed map blurs in reversed order.

    Args:
        lattice: Of the pixels' features.
        normalization: How the sums of all pixels are brought to a common scale.
    """

    def __init__(self, lattice: Lattice, normalization: Normalization = "symmetric") -> None:
        pixels, corners = lattice.vertices.shape
        self._order = lattice.order
        self._splat = _Sums(lattice.order // corners, F.pad(lattice.starts, (0, 1), value=pixels * corners))
        self._blurs = [_sums_of(vertices) for vertices in lattice.around]
        self._slice = _sums_of(lattice.vertices)
        # a Gaussian that is blurred along d + 1 axes: the scale that the dense CRF's authors give it
        self._into, self._out_of = lattice.shares, lattice.shares / (1 + 2.0**-lattice.dimensions)
        self._weights: dict[tuple[torch.dtype, bool], tuple[Tensor, Tensor, Tensor]] = {}
        before, after = normalizers(self(lattice.shares.new_ones(pixels, 1)), normalization)
        self._weights.clear()
        self._into, self._out_of = self._into * before, self._out_of * after

    def __call__(self, values: Tensor, *, transposed: bool = False) -> Tensor:
        """See ``Filter``."""
        of_splat, of_blur, of_slice = self._weights_of(values.dtype, transposed)
        grid = self._splat(values, of_splat)  # (M+1)×C
        for blur in reversed(self._blurs) if transposed else self._blurs:
            grid = blur(grid, of_blur)
        return self._slice(grid, of_slice)

    def _weights_of(self, kind: torch.dtype, transposed: bool) -> tuple[Tensor, Tensor, Tensor]:
        key = kind, transposed
        if key not in self._weights:
            into, out_of = (self._out_of, self._into) if transposed else (self._into, self._out_of)
            rows = len(self._splat.starts) - 1
            blur = torch.tensor([1.0, 0.5, 0.5], dtype=kind, device=into.device).repeat(rows)
            self._weights[key] = into.flatten()[self._order].to(kind), blur, out_of.flatten().to(kind)
        return self._weights[key]


class _Sums(NamedTuple):
    """Weighted sums of rows of a table.

    Attributes:
        rows: Numbers of the rows, one sum after the other, int32.
        starts: Where those of each sum begin, and the end, int32.
    """

    rows: Tensor
    starts: Tensor

    def __call__(self, table: Tensor, weights: Tensor) -> Tensor:
        """The sums, one row each."""
        summed, *_ = torch.embedding_bag(
            table, self.rows, self.starts, mode=0, per_sample_weights=weights, include_last_offset=True
        )
        return summed


def _sums_of(rows: Tensor) -> _Sums:
    """Sums of as many rows each, n×m."""
    count, each = rows.shape
    return _Sums(rows.flatten(), torch.arange(0, count * each + 1, each, dtype=torch.int32, device=rows.device))


def normalizers(sums: Tensor, normalization: Normalization) -> tuple[Tensor | float, Tensor | float]:
    """Factors on the pixels before and after filtering.

    Args:
        sums: What filtering makes of ones, N×1.
        normalization: ``symmetric``, ``after`` (Krähenbühl and Koltun's first code, and DeepLab's), ``before`` or
            ``none``.
    """
    if normalization == "none":
        return 1.0, 1.0
    if normalization == "symmetric":
        root = 1 / (sums + _TINY).sqrt()
        return root, root
    inverse = 1 / (sums + _TINY)
    return (inverse, 1.0) if normalization == "before" else (1.0, inverse)


class NeighborFilter:
    """A kernel of neighbors over all pixels of some images.

    Args:
        image: B×3×H×W, 0…255.
        kernel: Which neighbors.
        normalization: How the sums of all pixels are brought to a common scale.
    """

    def __init__(self, image: Tensor, kernel: Neighbors, normalization: Normalization) -> None:
        batch, _, height, width = image.shape
        self._shape = batch, height, width
        color = image.permute(0, 2, 3, 1).float()  # B×H×W×3
        self._links: list[tuple[_Part, _Part, Tensor]] = []
        for down, across in kernel.steps():
            right, left = max(0, across), max(0, -across)
            here = slice(None), slice(0, height - down), slice(left, width - right)
            there = slice(None), slice(down, height), slice(right, width - left)
            distance = (color[here] - color[there]).square().sum(dim=3, keepdim=True)
            width_of_color = float("inf") if kernel.sigma_rgb is None else kernel.sigma_rgb
            nearness = (distance / (-2 * width_of_color**2)).exp() / math.hypot(down, across)
            self._links.append((here, there, nearness))
        self._scales: tuple[Tensor | float, Tensor | float] = (1.0, 1.0)
        self._scales = normalizers(self(color.new_ones(batch * height * width, 1)), normalization)

    def __call__(self, values: Tensor, *, transposed: bool = False) -> Tensor:
        """See ``Filter``."""
        before, after = reversed(self._scales) if transposed else self._scales
        grid = (values * before).view(*self._shape, -1)
        total = torch.zeros_like(grid)
        for here, there, nearness in self._links:
            total[here] += nearness * grid[there]
            total[there] += nearness * grid[here]
        return total.view_as(values) * after


class _Filtered(torch.autograd.Function):
    """A filter, whose gradient is the transposed one."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, kernel: Filter) -> Tensor:
        ctx.kernel = kernel
        return kernel(values.contiguous())

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None]:
        return ctx.kernel(slopes[0].contiguous(), transposed=True), None


def filtered(values: Tensor, kernel: Filter) -> Tensor:
    """Filter N×C numbers, with a gradient to them."""
    if torch.is_grad_enabled() and values.requires_grad:
        result: Tensor = _Filtered.apply(values, kernel)
        return result
    return kernel(values)
