"""Scores near the borders of objects only (DeepLabv1 §5.2, figure "trimap"; v2 §4.1, v3+ §4.4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from atrous.errors import AtrousError
from atrous.metrics.borders import Distance, borders, distance_to, require_distance
from atrous.metrics.confusion import Scores, require_class_ids, scores_from_confusion

Borders = Literal["void", "classes"]
"""What counts as a border: ``void``, the ignored pixels that VOC draws around objects (v1, v2), or the pixels where two
``classes`` meet, for data without such outlines."""


def within_trimap(mask: Tensor, width: int, *, ignore_index: int = 255) -> Tensor:
    """Keep the labels of pixels that are near an ignored one, as VOC draws the borders of objects; ignore all others.

    Near means inside the ignored pixels dilated ``width`` times by a 3×3 square.

    Args:
        mask: Class ids B×H×W.
        width: Width of the band in pixels, at least 1.
        ignore_index: Label of ignored pixels.

    Returns:
        Class ids B×H×W.

    Raises:
        AtrousError: The width is not positive.
    """
    if width < 1:
        raise AtrousError(f"trimap_width={width} must be 1 pixel or more, or null for whole images")
    void = (mask == ignore_index).unsqueeze(1).float()
    near = F.max_pool2d(void, 2 * width + 1, stride=1, padding=width).squeeze(1) > 0
    return mask.where(near, mask.new_full((), ignore_index))


class TrimapScore(Metric):
    """Scores in bands around the borders of objects, at many widths in one pass.

    A band of width w holds the labeled pixels at most w pixels from an ignored one (``void``; equal to
    ``within_trimap``), or from the other side of a border (``classes``, where pixels on both sides of it are 1 from
    the other side). Its only state is one confusion matrix, int64, for every step from one width to the next.

    Args:
        num_classes: Number of classes C.
        widths: Widths in pixels, ascending, at least 1.
        ignore_index: Target value of the pixels that do not count.
        borders: What counts as a border.
        distance: How distances are measured.

    Raises:
        AtrousError: The widths do not ascend from 1 or more, or a name is unknown.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    rings: Tensor

    def __init__(
        self,
        num_classes: int,
        widths: Sequence[int],
        *,
        ignore_index: int = 255,
        borders: Borders = "void",
        distance: Distance = "chebyshev",
    ) -> None:
        super().__init__()
        self.widths = tuple(int(width) for width in widths)
        if not self.widths or self.widths[0] < 1 or list(self.widths) != sorted(set(self.widths)):
            raise AtrousError(
                f"trimap widths {list(widths)} must be whole numbers of pixels that ascend from 1 or more"
            )
        if borders not in get_args(Borders):
            raise AtrousError(f"borders of {borders!r} are unknown: choose {' or '.join(get_args(Borders))}")
        require_distance(distance)
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.borders = borders
        self.distance = distance
        count = len(self.widths)
        self.add_state("rings", torch.zeros(count, num_classes, num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Count a batch.

        Args:
            prediction: Class ids B×H×W, any integer dtype.
            target: Class ids of the same shape, or the ignored id.

        Raises:
            AtrousError: The shapes differ, or an id lies outside the classes; nothing is counted then.
        """
        require_class_ids(prediction, target, self.num_classes, self.ignore_index)
        for guess, truth in zip(prediction.cpu().numpy(), target.cpu().numpy(), strict=True):
            rings = np.searchsorted(self.widths, self._distances(truth))  # H×W, the first width that reaches
            counted = (truth != self.ignore_index) & (rings < len(self.widths))
            cells = (rings[counted] * self.num_classes + truth[counted]) * self.num_classes + guess[counted]
            counts: NDArray[np.int64] = np.bincount(cells, minlength=self.rings.numel())
            self.rings += torch.from_numpy(counts).view_as(self.rings).to(self.rings.device)

    def compute(self) -> dict[int, Scores]:
        """Scores by width; those of a band without a labeled pixel are nan."""
        bands = self.rings.cumsum(dim=0)
        return {width: scores_from_confusion(band) for width, band in zip(self.widths, bands, strict=True)}

    def _distances(self, mask: NDArray[np.integer]) -> NDArray[np.float32]:
        if self.borders == "void":
            return distance_to(mask == self.ignore_index, self.distance)
        return distance_to(borders(mask, ignore_index=self.ignore_index), self.distance) + 1
