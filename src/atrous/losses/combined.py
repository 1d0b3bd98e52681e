"""A weighted sum of losses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from atrous.errors import AtrousError
from atrous.losses.loss import Loss


class Combined(Loss):
    """Sum of losses, each times its weight, such as cross-entropy and Lovász-softmax.

    Args:
        terms: Losses, with names or in order.
        weights: Factor of each term, by name or in order; a name that is missing, or ``None``, means 1.

    Raises:
        AtrousError: There is no term, a term is no loss, or the weights do not fit the terms or are impossible.
    """

    def __init__(
        self,
        terms: Mapping[str, Loss] | Sequence[Loss],
        *,
        weights: Mapping[str, float] | Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        named = dict(terms) if isinstance(terms, Mapping) else {str(i): term for i, term in enumerate(terms)}
        if not named:
            raise AtrousError("loss.terms is empty; name one loss at least, such as cross_entropy")
        for name, term in named.items():
            if not isinstance(term, Loss):
                raise AtrousError(
                    f"loss.terms.{name} is no loss; give it a _target_ such as atrous.losses.CrossEntropy"
                )
        self.names = tuple(named)
        self.weights = _weights_of(self.names, weights)
        self.terms = nn.ModuleList(named.values())

    def at_step(self, step: int) -> None:
        """Pass the step on to every term."""
        for term in self.terms:
            assert isinstance(term, Loss)
            term.at_step(step)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Weighted sum of the terms."""
        losses = [weight * term(logits, target) for weight, term in zip(self.weights, self.terms, strict=True)]
        return torch.stack(losses).sum()


def _weights_of(names: tuple[str, ...], weights: Mapping[str, float] | Sequence[float] | None) -> tuple[float, ...]:
    if weights is None:
        weights = {}
    elif not isinstance(weights, Mapping):
        if len(weights) != len(names):
            raise AtrousError(f"loss.weights has {len(weights)} values for {len(names)} terms; give one per term")
        weights = dict(zip(names, weights, strict=True))
    for name, weight in weights.items():
        if name not in names:
            raise AtrousError(f"loss.weights names {name!r}, but the terms are {', '.join(names)}")
        if not 0 <= weight < math.inf:
            raise AtrousError(f"loss.weights.{name}={weight} must be a number that is not negative")
    return tuple(float(weights.get(name, 1.0)) for name in names)
