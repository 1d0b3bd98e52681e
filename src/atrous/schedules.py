"""Learning-rate policies: the factor on the base learning rate after a number of steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Poly:
    """``(1 − step / total)^power`` (DeepLabv2 §4.1), after a linear warm-up.

    Attributes:
        power: Exponent, 0.9 in the papers.
        warmup_steps: Steps over which the factor also rises linearly from ``warmup_factor`` to 1.
        warmup_factor: Where it starts.
    """

    power: float = 0.9
    warmup_steps: int = 0
    warmup_factor: float = 0.1

    def __call__(self, total_steps: int) -> Callable[[int], float]:
        """Return the factor as a function of the number of optimiser steps done."""

        def factor(step: int) -> float:
            decay = (1 - min(step, total_steps) / total_steps) ** self.power
            if step >= self.warmup_steps:
                return float(decay)
            return float(decay * (self.warmup_factor + (1 - self.warmup_factor) * step / self.warmup_steps))

        return factor
