"""An exponential moving average of the weights, used wherever the model is scored or saved."""

from __future__ import annotations

from functools import partial

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from atrous.errors import require_range


class MovingAverage(WeightAveraging):
    """Lightning's weight averaging with a decay that suits short runs as well.

    The decay of the n-th average is min(``decay``, (1 + n) / (10 + n)), as in TensorFlow's ExponentialMovingAverage
    with ``num_updates``: the weights before training are forgotten after a few steps, not after 1 / (1 - ``decay``).
    Statistics of batch norms are averaged like weights; counters are copied.

    Args:
        decay: Share of the old average that is kept in the long run.
        start_step: Training steps before the first average.
        device: Where the average is stored; the model's device if None.

    Raises:
        AtrousError: A number is out of range.
    """

    def __init__(self, decay: float = 0.999, *, start_step: int = 0, device: str | None = None) -> None:
        require_range("callbacks.average.decay", decay, at_least=0, below=1)
        require_range("callbacks.average.start_step", start_step, at_least=0)
        super().__init__(device=device, use_buffers=True, multi_avg_fn=partial(average, decay))
        self._start_step = start_step

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """After every optimizer step from ``start_step`` on."""
        return step_idx is not None and step_idx >= self._start_step


def average(decay: float, averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
    """Turn moving averages into the next ones, in place.

    Args:
        decay: Largest share of the old average.
        averaged: The old averages, all of one device and dtype; counters take the newest value.
        current: The newest values.
        count: Number of averages so far.
    """
    if not averaged[0].is_floating_point():
        torch._foreach_copy_(averaged, current)
        return
    number = int(count)
    kept = min(decay, (1 + number) / (10 + number))
    torch._foreach_lerp_(averaged, current, 1 - kept)
