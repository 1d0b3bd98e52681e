"""Cross-entropy over the hardest pixels only: a fraction of them, or those below a probability."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from atrous.errors import AtrousError
from atrous.losses.cross_entropy import PixelLoss
from atrous.losses.loss import IGNORE_INDEX, mean_of_counted


class HardPixels(PixelLoss):
    """Mean cross-entropy of the fraction of a batch's pixels with the largest one (TensorFlow DeepLab's top-k).

    The fraction shrinks linearly from all pixels to ``fraction`` over the first ``shrink_steps`` steps. It is a
    fraction of the pixels that are not ignored (TensorFlow: of all), so that ignored borders do not soften the choice.

    Args:
        fraction: Part of the pixels that count in the end (``top_k_percent_pixels``); at least one pixel does.
        shrink_steps: Steps until then (``hard_example_mining_step``); 0 for the fraction from the start.
        class_weights: One factor per class for the pixels of that class, or ``None`` for 1; the choice heeds it.
        class_weight_power: Exponent on the factors; between 0 (no weighting) and 1 it softens them.
        label_smoothing: Share of a label that is spread evenly over all classes.
        ignore_index: Label of pixels that take no part.

    Raises:
        AtrousError: A value is impossible.
    """

    def __init__(
        self,
        *,
        fraction: float = 0.25,
        shrink_steps: int = 0,
        class_weights: Sequence[float] | None = None,
        class_weight_power: float = 1.0,
        label_smoothing: float = 0.0,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__(
            class_weights=class_weights,
            class_weight_power=class_weight_power,
            label_smoothing=label_smoothing,
            ignore_index=ignore_index,
        )
        if not 0 < fraction <= 1:
            raise AtrousError(f"loss.fraction={fraction} must be greater than 0 and at most 1")
        if not shrink_steps >= 0:
            raise AtrousError(f"loss.shrink_steps={shrink_steps} must not be negative; 0 starts with the fraction")
        self.final_fraction = fraction
        self.shrink_steps = shrink_steps
        self.at_step(0)

    def at_step(self, step: int) -> None:
        """Shrink the fraction."""
        done = min(1.0, step / self.shrink_steps) if self.shrink_steps else 1.0
        self.fraction = done * self.final_fraction + (1.0 - done)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Mean cross-entropy of the hardest pixels."""
        counted = self.counted(target)
        losses = self.cross_entropy(logits, target).masked_fill(~counted, -1.0).flatten()
        # Only the device knows how many pixels count, so the most possible are taken, and the surplus is masked.
        most = min(losses.numel(), max(1, math.ceil(self.fraction * losses.numel())))
        hardest = losses.topk(most).values
        count = counted.sum()
        kept = torch.minimum((self.fraction * count).floor().clamp(min=1), count)
        chosen = torch.arange(most, device=losses.device) < kept
        return mean_of_counted(hardest.masked_fill(~chosen, 0.0), chosen)


class OHEM(PixelLoss):
    """Mean cross-entropy of the pixels whose true class has a probability below a threshold, but of enough pixels.

    Online hard example mining (Shrivastava et al. 2016, arXiv 1604.03540) as in semantic segmentation, with OCNet's
    threshold and number: where fewer than ``min_kept`` pixels are below the threshold, the ``min_kept`` least probable
    ones of the batch count.

    Args:
        threshold: Probability of the true class below which a pixel is hard.
        min_kept: Minimum number of pixels that count in a batch, on each device.
        class_weights: One factor per class for the pixels of that class, or ``None`` for 1; the choice ignores it.
        class_weight_power: Exponent on the factors; between 0 (no weighting) and 1 it softens them.
        label_smoothing: Share of a label that is spread evenly over all classes.
        ignore_index: Label of pixels that take no part.

    Raises:
        AtrousError: A value is impossible.
    """

    def __init__(
        self,
        *,
        threshold: float = 0.7,
        min_kept: int = 100_000,
        class_weights: Sequence[float] | None = None,
        class_weight_power: float = 1.0,
        label_smoothing: float = 0.0,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__(
            class_weights=class_weights,
            class_weight_power=class_weight_power,
            label_smoothing=label_smoothing,
            ignore_index=ignore_index,
        )
        if not 0 <= threshold <= 1:
            raise AtrousError(f"loss.threshold={threshold} is no probability; give one from 0 to 1")
        if min_kept < 1:
            raise AtrousError(f"loss.min_kept={min_kept} must be a positive number of pixels")
        self.threshold = threshold
        self.min_kept = min_kept

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Mean cross-entropy of the hard pixels; pixels as hard as the last one that is needed count as well."""
        counted = self.counted(target)
        losses = self.cross_entropy(logits, target)
        with torch.no_grad():
            surprise = losses if self.plain else self.cross_entropy(logits, target, weighted=False)
            probability = (-surprise).exp().masked_fill(~counted, math.inf)
            needed = min(self.min_kept, probability.numel())
            last_needed = probability.flatten().topk(needed, largest=False).values[-1]
            hard = counted & ((probability < self.threshold) | (probability <= last_needed))
        return mean_of_counted(losses.masked_fill(~hard, 0.0), hard)
