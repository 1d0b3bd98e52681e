"""What a search learns: which operation an edge of the cell should have, and where the path should go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atrous.models.nas.genotype import STRIDES, Operation
from atrous.models.nas.trellis import Trellis, edges_of, neighbors

INITIAL_DEVIATION = 1e-3
"""Of alpha and beta before the search (Auto-DeepLab §4.1)."""


class Architecture(nn.Module):
    """Alpha, which all cells share, and beta (Auto-DeepLab §3.3).

    Neither takes part in an ordinary backward pass: whoever searches asks for their gradients.

    Args:
        trellis: The network's.
        blocks: Blocks of a cell.

    Attributes:
        alpha: Logits of the operations: one row an edge, in the order of ``edges_of``, one column an ``Operation``.
        beta: Logits of going on from a cell: one layer but the last, stride, and next stride (half, the same, twice).
    """

    alpha: nn.Parameter
    beta: nn.Parameter
    possible: Tensor

    def __init__(self, trellis: Trellis, blocks: int) -> None:
        super().__init__()
        self.trellis = trellis
        self.blocks = blocks
        self.edges = edges_of(blocks)
        alpha = INITIAL_DEVIATION * torch.randn(len(self.edges), len(Operation))
        beta = INITIAL_DEVIATION * torch.randn(trellis.layers - 1, len(STRIDES), 3)
        self.alpha = nn.Parameter(alpha, requires_grad=False)
        self.beta = nn.Parameter(beta, requires_grad=False)
        possible = torch.tensor(
            [
                [
                    [stride in trellis.strides(layer) and after in trellis.after(layer, stride) for after in near]
                    for stride, near in ((stride, neighbors(stride)) for stride in STRIDES)
                ]
                for layer in range(trellis.layers - 1)
            ],
            dtype=torch.bool,
        ).view(beta.shape)
        self.register_buffer("possible", possible, persistent=False)

    def operation_weights(self) -> Tensor:
        """Weights of the operations, which add up to 1 on every edge."""
        return self.alpha.softmax(dim=1)

    def path_weights(self) -> Tensor:
        """Weights of what a cell gives to the next layer, which add up to 1 over where it goes; 0 where it cannot."""
        exists = self.possible.any(dim=2, keepdim=True)
        return self._path_logits().where(exists, 0).softmax(dim=2) * self.possible

    def sample_operations(self, temperature: float) -> Tensor:
        """One operation an edge, drawn by its weight; gradients pass as through a softmax with the same noise."""
        return F.gumbel_softmax(self.alpha, tau=temperature, hard=True, dim=1)

    def sample_path(self, temperature: float) -> tuple[tuple[int, ...], list[Tensor]]:
        """A path, drawn by its weight, and a one for each of its steps, through which gradients pass."""
        path, steps = [STRIDES[0]], []
        for logits in self._path_logits():
            place = STRIDES.index(path[-1])
            step = F.gumbel_softmax(logits[place], tau=temperature, hard=True, dim=0)
            taken = int(step.argmax())
            steps.append(step[taken])
            path.append(neighbors(path[-1])[taken])
        return tuple(path), steps

    def _path_logits(self) -> Tensor:
        return self.beta.masked_fill(~self.possible, -torch.inf)


@contextmanager
def architecture_alone(network: nn.Module, architecture: Architecture) -> Iterator[None]:
    """Let what is computed in the block have gradients for alpha and beta, and for no weight of the network."""
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    for parameter in (architecture.alpha, architecture.beta):
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in (architecture.alpha, architecture.beta):
            parameter.requires_grad_(False)
        for parameter in learning:
            parameter.requires_grad_(True)
