"""What makes a dense CRF faster and no longer exact: labels that cannot win are passed over, or pixels are."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from atrous.crf.backend import Prepared
from atrous.crf.mean_field import Pairwise
from atrous.geometry import Size, size_of

Solve = Callable[[Tensor, Pairwise], Tensor]


def without_unlikely(scores: Tensor, pairwise: Pairwise, solve: Solve, *, least: float) -> Tensor:
    """Solve for the labels that reach a probability somewhere; the others keep their scores.

    All others together are one more label that gets no message, so that their share of each pixel counts. With Potts
    compatibility a score of theirs would have moved by at most the sum of weights, times a pixel's sum over its
    neighbors, times ``least``.

    Args:
        scores: B×C×H×W.
        pairwise: Without C×C numbers.
        solve: What solves for fewer labels.
        least: The probability.
    """
    classes = scores.shape[1]
    likely = scores.softmax(dim=1).amax(dim=(0, 2, 3)) >= least  # C
    kept, rest = likely.nonzero().flatten(), (~likely).nonzero().flatten()
    if len(rest) < 2 or not len(kept):  # nothing to gain
        return solve(scores, pairwise)
    fewer = torch.cat([scores[:, kept], scores[:, rest].logsumexp(dim=1, keepdim=True)], dim=1)
    factor = 1.0 if pairwise.compatibility is None else pairwise.compatibility
    gains = [(weight * factor).expand(classes)[kept] for weight in pairwise.weights]
    reduced = dataclasses.replace(pairwise, weights=[F.pad(gain, (0, 1)) for gain in gains], compatibility=None)
    result = scores.clone()
    result[:, kept] = solve(fewer, reduced)[:, :-1]
    return result


class Coarse(Prepared):
    """Smaller images: what neighbors add to the scores is computed there and enlarged bilinearly.

    Args:
        prepared: The smaller images.
        shape: Batch, height and width of the scores.
    """

    def __init__(self, prepared: Prepared, shape: tuple[int, int, int]) -> None:
        self._prepared = prepared
        self.shape = shape

    def solve(self, scores: Tensor, pairwise: Pairwise) -> Tensor:
        """See ``Prepared``."""
        small = resized(scores, self._prepared.shape[1:])
        support = self._prepared.solve(small, pairwise) - small
        return scores + F.interpolate(support, size_of(scores), mode="bilinear", align_corners=False)


def resized(tensor: Tensor, size: Size) -> Tensor:
    """Images or scores B×C×H×W made smaller, each pixel the mean of those it covers."""
    return F.interpolate(tensor, size, mode="bilinear", align_corners=False, antialias=True)


def smaller(size: Size, resolution: float) -> Size:
    """Height and width at a resolution, at least one pixel."""
    return max(1, round(size[0] * resolution)), max(1, round(size[1] * resolution))
