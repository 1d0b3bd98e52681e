"""The batch norm of a network that is being searched."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atrous.models.nas.operations import EPS


class PlainNorm(nn.modules.batchnorm._NormBase):
    """Batch norm without scale and shift, for the channels of several edges.

    Args:
        channels: Channels of one edge.
        edges: Their number.
    """

    def __init__(self, channels: int, edges: int = 1) -> None:
        super().__init__(channels * edges, eps=EPS, affine=False)
        self.edges = edges

    def forward(self, feature: Tensor, rows: tuple[int, ...] = (0,), weights: Tensor | None = None) -> Tensor:
        """Normalize B×(n·C)×h×w, the channels of n edges, and weigh each edge."""
        mean, variance = self._statistics(rows)
        scale = None if weights is None else weights.repeat_interleave(self.num_features // self.edges)
        result = F.batch_norm(
            feature,
            mean,
            variance,
            weight=scale,
            bias=None if scale is None else torch.zeros_like(scale),
            training=self.training,
            momentum=self._share_of_batch(),
            eps=self.eps,
        )
        if self.training and len(rows) < self.edges:
            self._put_back(rows, mean, variance)
        return result

    def _share_of_batch(self) -> float:
        """Weight of this batch in the running statistics; of all batches alike where there is no momentum."""
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                return 1 / float(self.num_batches_tracked)
        return self.momentum or 0.0

    def _statistics(self, rows: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Running mean and variance of some edges; those of all are the layer's own."""
        assert self.running_mean is not None
        assert self.running_var is not None
        if len(rows) == self.edges:
            return self.running_mean, self.running_var
        places = list(rows)
        mean, variance = (each.view(self.edges, -1)[places] for each in (self.running_mean, self.running_var))
        return mean.flatten(), variance.flatten()

    def _put_back(self, rows: tuple[int, ...], mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        for whole, part in ((self.running_mean, mean), (self.running_var, variance)):
            whole.view(self.edges, -1)[list(rows)] = part.view(len(rows), -1)
