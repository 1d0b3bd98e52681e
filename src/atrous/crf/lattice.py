"""The permutohedral lattice: a grid of simplices in feature space, of which only those around pixels are stored.

A Gaussian over N pixels in d dimensions takes N² steps as it stands, and about N·(d + 1)² here (Adams, Baek and Davis,
"Fast High-Dimensional Filtering Using the Permutohedral Lattice", 2010). This one agrees with that of the dense CRF's
authors (Krähenbühl and Koltun, arXiv 1210.5644) down to which vertices there are and how float32 numbers are rounded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from atrous.errors import AtrousError


@dataclass(frozen=True)
class Lattice:
    """The simplices around N pixels and their M vertices.

    Attributes:
        vertices: The d + 1 vertices of every pixel's simplex, N×(d+1), int32.
        shares: Barycentric weights of the pixel among them, N×(d+1), float32.
        order: The N·(d + 1) places of ``vertices``, sorted by vertex, int32.
        starts: Where the places of each vertex begin in ``order``, M + 1 numbers, int32.
        around: Of every vertex along each axis itself, the one before and the one after, (d+1)×(M+1)×3, int32; M where
            there is none, and of M itself, a vertex that is always 0.
    """

    vertices: Tensor
    shares: Tensor
    order: Tensor
    starts: Tensor
    around: Tensor

    @property
    def size(self) -> int:
        """Number of vertices M."""
        return len(self.starts) - 1

    @property
    def dimensions(self) -> int:
        """Number of features d."""
        return self.vertices.shape[1] - 1


def build_lattice(features: Tensor) -> Lattice:
    """Find the simplices around pixels; those of several images lie in lattices that do not touch.

    Args:
        features: B×N×d, float32, in units of their standard deviations.

    Returns:
        The lattice of all B·N pixels.

    Raises:
        AtrousError: Features lie so far apart that vertices cannot be numbered.
    """
    batch, pixels, dimensions = features.shape
    columns, ranks, shares = _embed(features.reshape(batch * pixels, dimensions))
    radix, offset = _radix(columns, batch)
    weights = [math.prod(radix[i + 1 :]) for i in range(dimensions)]
    # Keys are linear in the coordinates, so that the key of a vertex a step away differs by a constant.
    key = torch.zeros(batch * pixels, dtype=torch.int64, device=features.device)
    for column, low, weight in zip(columns[:-1], offset, weights, strict=True):
        key += (column.long() - low) * weight
    if batch > 1:
        key += torch.arange(batch, device=key.device).repeat_interleave(pixels) * math.prod(radix)
    keys = torch.empty(batch * pixels, dimensions + 1, dtype=torch.int64, device=key.device)
    for remainder in range(dimensions + 1):
        # a coordinate of rank at most d − remainder grows by the remainder, the others by d + 1 less
        step = torch.full_like(key, remainder * sum(weights))
        for rank, weight in zip(ranks[:-1], weights, strict=True):
            step -= (rank > dimensions - remainder).long() * ((dimensions + 1) * weight)
        torch.add(key, step, out=keys[:, remainder])
    return _index(keys, shares, weights)


def _embed(features: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """The simplex of every pixel.

    Returns:
        Coordinates of the nearest vertex of remainder 0, d + 1 columns of N whole numbers; the rank of the pixel's
        distance from it in each; and the pixel's barycentric weights N×(d+1).
    """
    count, d = features.shape
    # on the plane of coordinates that sum up to 0
    scales = scales_of(d)
    elevated: list[Tensor] = [torch.empty(0)] * (d + 1)
    total = torch.zeros(count, device=features.device)
    for i in range(d, 0, -1):
        scaled = features[:, i - 1] * scales[i - 1]
        elevated[i] = total - scaled * i
        total = total + scaled
    elevated[0] = total
    # the nearest point whose coordinates are multiples of d + 1
    down = _float32(1 / _float32(d + 1))
    rounded = [(column * down).round() for column in elevated]  # ties to even
    nearest = [column * (d + 1) for column in rounded]
    excess = torch.stack(rounded).sum(dim=0)  # d + 1 small whole numbers
    distance = [column - base for column, base in zip(elevated, nearest, strict=True)]
    ranks = [torch.zeros(count, device=features.device) for _ in range(d + 1)]
    for i in range(d):
        for j in range(i + 1, d + 1):
            less = (distance[i] < distance[j]).float()
            ranks[i] += less
            ranks[j] += 1 - less
    # that point may lie off the plane: coordinates of the largest or smallest ranks bring it back
    for rank, base in zip(ranks, nearest, strict=True):
        rank += excess
        back = ((rank < 0).float() - (rank > d).float()) * (d + 1)
        rank += back
        base += back
    # ranks are a permutation of 0…d: each vertex has the gap between two distances that follow each other
    places = d - torch.stack(ranks, dim=1).long()
    gaps = torch.stack([(column - base) * down for column, base in zip(elevated, nearest, strict=True)], dim=1)
    sorted_gaps = torch.empty_like(gaps).scatter_(1, places, gaps)
    shares = sorted_gaps.clone()
    shares[:, 1:] -= sorted_gaps[:, :-1]
    shares[:, 0] += 1 - sorted_gaps[:, d]
    return nearest, ranks, shares


def scales_of(dimensions: int) -> list[float]:
    """Factors on features that give a lattice of unit Gaussians, as float32 numbers."""
    factor = _float32(math.sqrt(2.0 / 3.0) * (dimensions + 1))
    return [_float32(factor / math.sqrt((i + 1) * (i + 2))) for i in range(dimensions)]


def _float32(number: float) -> float:
    """Rounded to float32."""
    return float(torch.tensor(number, dtype=torch.float32))


def _radix(columns: list[Tensor], batch: int) -> tuple[list[int], list[int]]:
    """How many values each coordinate of a key takes, and the least of them, vertices a step away included."""
    dimensions = len(columns) - 1
    margin = 2 * dimensions + 2
    bounds = [torch.aminmax(column) for column in columns[:-1]]
    lows = [int(low) - margin for low, _ in bounds]
    radix = [int(high) + margin - low + 1 for (_, high), low in zip(bounds, lows, strict=True)]
    if math.prod(radix) * batch >= 2**62:
        raise AtrousError("the standard deviations of a CRF kernel are too small for this image: use larger ones")
    return radix, lows


def _index(keys: Tensor, shares: Tensor, weights: list[int]) -> Lattice:
    """Number the vertices in the order of their keys, and find who is next to whom."""
    axes = keys.shape[1]
    sorted_keys, order = keys.flatten().sort()
    new = torch.ones_like(sorted_keys, dtype=torch.bool)
    torch.ne(sorted_keys[1:], sorted_keys[:-1], out=new[1:])
    starts = new.nonzero().flatten()
    own = sorted_keys[starts]
    count = len(own)
    vertices = torch.empty(keys.numel(), dtype=torch.int32, device=keys.device)
    vertices[order] = new.cumsum(0, dtype=torch.int32).sub_(1)
    around = torch.full((axes, count + 1, 3), count, dtype=torch.int32, device=keys.device)
    around[:, :count, 0] = torch.arange(count, dtype=torch.int32, device=keys.device)
    for axis in range(axes):
        # a step: one up in all coordinates but its own, which goes down by d
        step = sum(weights) - (axes * weights[axis] if axis < axes - 1 else 0)
        wanted = own + step
        place = torch.searchsorted(own, wanted).clamp_(max=count - 1)
        before = (own[place] == wanted).nonzero().flatten()
        after = place[before]
        around[axis, before, 2] = after.int()
        around[axis, after, 1] = before.int()
    ends = torch.tensor([keys.numel()], device=keys.device)
    return Lattice(
        vertices=vertices.view(keys.shape),
        shares=shares,
        order=order.int(),
        starts=torch.cat([starts, ends]).int(),
        around=around,
    )
