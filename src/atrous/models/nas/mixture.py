"""All operations of a cell's edges at once, weighted (Auto-DeepLab §3.3, eq. 1 to 3).

Every state of a cell goes to several later blocks, and each of these edges has filters of its own. The edges of one
state are computed together: a convolution of all as one with more filters, and a pooling, which has none, once. A batch
norm without scale and shift follows each operation, so the weight of the operation is its scale.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atrous.models.atrous_convolution import Taps, atrous_convolution
from atrous.models.nas.genotype import Operation
from atrous.models.nas.operations import convolution, every, is_atrous, kernel_of, pooling, rate_of
from atrous.models.nas.plain_norm import PlainNorm

OPERATIONS = tuple(Operation)
_CONVOLUTIONS = tuple(kind for kind in OPERATIONS if "separable" in kind or is_atrous(kind))
_POOLINGS = (Operation.AVERAGE_POOLING, Operation.MAX_POOLING)

Chosen = Sequence[Sequence[Operation]]
"""The operations that edges have; an edge without any is not there."""


class Mixture(nn.Module):
    """The edges from one state of a cell to several blocks.

    Args:
        channels: Channels of the state and of every result.
        edges: Their number.
        stride: 1, or 2 to halve the size.
    """

    def __init__(self, channels: int, edges: int, *, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.channels = channels
        self.edges = edges
        self.convolutions = nn.ModuleDict(
            {
                kind.value: (_Atrous if is_atrous(kind) else _Separable)(channels, edges, kernel_of(kind), stride)
                for kind in _CONVOLUTIONS
            }
        )
        self.poolings = nn.ModuleDict({kind.value: pooling(kind, stride) for kind in _POOLINGS})
        self.norms = nn.ModuleDict({kind.value: PlainNorm(channels) for kind in _POOLINGS})

    def forward(self, state: Tensor, weights: Tensor, chosen: Chosen | None = None) -> list[Tensor | None]:
        """Compute the result of every edge.

        Args:
            state: B×C×h×w.
            weights: Of the operations, a row an edge.
            chosen: The operations to compute; ``None`` for all.

        Returns:
            For every edge B×C×h'×w', or ``None`` where it is not there.
        """
        if chosen is None:
            rows = tuple(range(self.edges))
            total = self._plain(state, weights)
            for kind in _CONVOLUTIONS:
                total = total + self.convolutions[kind](state, rows, weights[:, OPERATIONS.index(kind)])
            return list(total.chunk(self.edges, dim=1))
        return self._only(state, weights, chosen)

    def _plain(self, state: Tensor, weights: Tensor) -> Tensor:
        """Poolings and skip of all edges: B×(n·C)×h'×w'."""
        maps = [self._pooled(state, kind) for kind in _POOLINGS] + [every(state, self.stride)]
        columns = [OPERATIONS.index(kind) for kind in (*_POOLINGS, Operation.SKIP)]
        stacked = torch.stack(maps, dim=1)  # B×3×C×h'×w'
        return torch.einsum("nk,bkchw->bnchw", weights[:, columns].to(stacked.dtype), stacked).flatten(1, 2)

    def _pooled(self, state: Tensor, kind: Operation) -> Tensor:
        pooled: Tensor = self.norms[kind](self.poolings[kind](state))
        return pooled

    def _only(self, state: Tensor, weights: Tensor, chosen: Chosen) -> list[Tensor | None]:
        results: list[Tensor | None] = [None] * self.edges
        for column, kind in enumerate(OPERATIONS):
            rows = tuple(row for row, kinds in enumerate(chosen) if kind in kinds)
            if not rows:
                continue
            for row, result in zip(rows, self._one(state, kind, rows, weights[list(rows), column]), strict=True):
                before = results[row]
                results[row] = result if before is None else before + result
        return results

    def _one(self, state: Tensor, kind: Operation, rows: tuple[int, ...], weights: Tensor) -> list[Tensor]:
        """One operation on some edges."""
        if kind in _CONVOLUTIONS:
            return list(self.convolutions[kind](state, rows, weights).chunk(len(rows), dim=1))
        if kind is Operation.NONE:
            return [torch.zeros_like(every(state, self.stride))] * len(rows)
        plain = every(state, self.stride) if kind is Operation.SKIP else self._pooled(state, kind)
        return [plain * weight.to(plain.dtype) for weight in weights]


class _Atrous(nn.Module):
    """ReLU, full convolution of rate 2, norm, for several edges."""

    def __init__(self, channels: int, edges: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.edges = edges
        self.convolution = convolution(channels, channels * edges, kernel)
        self.norm = PlainNorm(channels, edges)

    def forward(self, state: Tensor, rows: tuple[int, ...], weights: Tensor) -> Tensor:
        active = F.relu(every(state, self.stride))
        rate = rate_of(self.stride)
        result: Tensor = self.norm(_convolved(active, self.convolution, self.edges, rows, rate=rate), rows, weights)
        return result


class _Separable(nn.Module):
    """Twice ReLU, depthwise and pointwise convolution, norm, for several edges."""

    def __init__(self, channels: int, edges: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.edges = edges
        wide = channels * edges
        self.depthwise = nn.ModuleList(convolution(wide, wide, kernel, groups=wide) for _ in range(2))
        self.pointwise = nn.ModuleList(convolution(wide, wide, 1, groups=edges) for _ in range(2))
        self.norms = nn.ModuleList(PlainNorm(channels, edges) for _ in range(2))

    def forward(self, state: Tensor, rows: tuple[int, ...], weights: Tensor) -> Tensor:
        feature = state.repeat(1, len(rows), 1, 1)
        for number, (depthwise, pointwise, norm) in enumerate(
            zip(self.depthwise, self.pointwise, self.norms, strict=True)
        ):
            feature = F.relu(feature)
            feature = _convolved(
                feature,
                depthwise,
                self.edges,
                rows,
                stride=self.stride if number == 0 else 1,
                groups=feature.shape[1],
            )
            feature = _convolved(feature, pointwise, self.edges, rows, groups=len(rows))
            feature = norm(feature, rows, weights if number == 1 else None)
        return feature


def _convolved(
    feature: Tensor,
    layer: nn.Module,
    edges: int,
    rows: tuple[int, ...],
    *,
    stride: int = 1,
    rate: int = 1,
    groups: int = 1,
) -> Tensor:
    """The filters of some edges."""
    assert isinstance(layer, nn.Conv2d)
    weight = layer.weight
    if len(rows) < edges:
        weight = weight.view(edges, -1, *weight.shape[1:])[list(rows)].flatten(0, 1)
    kernel = weight.shape[-1]
    reach = rate * (kernel // 2)
    taps = Taps((kernel, kernel), (rate, rate), (stride, stride), (reach, reach))
    return atrous_convolution(feature, weight, taps=taps, groups=groups, way=getattr(layer, "way", "auto"))
