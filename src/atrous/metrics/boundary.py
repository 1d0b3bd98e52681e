"""Scores of outlines: boundary F1 and Boundary IoU."""

from __future__ import annotations

import math
from itertools import starmap
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from torch import Tensor
from torchmetrics import Metric

from atrous.errors import require_range
from atrous.metrics.borders import Labels, Pixels, borders, distance_to, distance_to_other_labels
from atrous.metrics.confusion import require_class_ids

Box = tuple[slice, slice]

_UNITS = 2**32
"""Parts of one in which fractions are added up: whole numbers have one sum, whatever the order of processes."""


class BoundaryScores(NamedTuple):
    """Scores of outlines, as fractions between 0 and 1; nan where there is no outline.

    Attributes:
        mean: The one number.
        classes: Score of each class.
    """

    mean: float
    classes: tuple[float, ...]


class BoundaryF1(Metric):
    """Harmonic mean of precision and recall of the outline of each class in each image (Csurka et al., BMVC 2013, §3).

    The outline of a class is made of its pixels that have one of another label above, below, left or right of them. A
    predicted point is right, and a true one found, if the other outline is no farther away than the tolerance, in a
    straight line: the morphological form of the BSDS and DAVIS benchmarks, without matching points one to one. F1 of
    a class is averaged over the images in which one of the two outlines exists; the one number is the mean over
    images of the mean over classes, as SegNet (§4.1) and MATLAB's ``bfscore`` report it.

    Ignored pixels are another label to the truth, so the outlines that VOC draws around objects are outlines here. What
    is predicted inside them is right if it is near enough, and otherwise does not count.

    Args:
        num_classes: Number of classes C.
        tolerance: Share of an image's diagonal.
        ignore_index: Target value of the pixels that do not count.

    Raises:
        AtrousError: The tolerance is not between 0 and 1.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    of_classes: Tensor
    images_of_classes: Tensor
    of_images: Tensor
    images: Tensor

    def __init__(self, num_classes: int, *, tolerance: float = 0.0075, ignore_index: int = 255) -> None:
        super().__init__()
        require_range("tolerance", tolerance, above=0, at_most=1)
        self.num_classes = num_classes
        self.tolerance = tolerance
        self.ignore_index = ignore_index
        for name in ("of_classes", "images_of_classes"):
            self.add_state(name, torch.zeros(num_classes, dtype=torch.int64), dist_reduce_fx="sum")
        for name in ("of_images", "images"):
            self.add_state(name, torch.zeros(1, dtype=torch.int64), dist_reduce_fx="sum")

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
            scores = self._of_image(guess, truth)
            measured = [label for label, score in enumerate(scores) if not math.isnan(score)]
            if not measured:
                continue
            self.images += 1
            self.of_images += round(_UNITS * sum(scores[label] for label in measured) / len(measured))
            for label in measured:
                self.images_of_classes[label] += 1
                self.of_classes[label] += round(_UNITS * scores[label])

    def compute(self) -> BoundaryScores:
        """Scores of everything counted; all nan if nothing was counted."""
        classes = self.of_classes.double() / _UNITS / self.images_of_classes  # 0 / 0 is nan
        return BoundaryScores((self.of_images.double() / _UNITS / self.images).item(), tuple(classes.tolist()))

    def _of_image(self, guess: Labels, truth: Labels) -> list[float]:
        tolerance = self.tolerance * math.hypot(*truth.shape)
        true, predicted = (self._outlines(labels) for labels in (truth, guess))
        counted = truth != self.ignore_index
        boxes = zip(*(find_objects(labels, max_label=self.num_classes) for labels in (true, predicted)), strict=True)
        return [
            math.nan
            if box is None
            else _f1(true[box] == label + 1, predicted[box] == label + 1, counted[box], tolerance)
            for label, box in enumerate(starmap(_joined, boxes))
        ]

    def _outlines(self, labels: Labels) -> NDArray[np.int64]:
        """1 + the class of every pixel on an outline, 0 for all others, H×W."""
        on = borders(labels, diagonal=False) & (labels != self.ignore_index)
        return np.where(on, labels.astype(np.int64) + 1, 0)


def _joined(one: Box | None, other: Box | None) -> Box | None:
    """The smallest box around two."""
    if one is None or other is None:
        return one or other
    down, across = (slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(one, other, strict=True))
    return down, across


def _f1(true: Pixels, predicted: Pixels, counted: Pixels, tolerance: float) -> float:
    """F1 of two outlines; nan if there is none."""
    right = predicted & (distance_to(true, "euclidean") <= tolerance)
    found = true & (distance_to(predicted, "euclidean") <= tolerance)
    guesses, truths = (right | (predicted & counted)).sum(), true.sum()
    if guesses + truths == 0:
        return math.nan
    if not right.any() or not found.any():
        return 0.0
    precision, recall = right.sum() / guesses, found.sum() / truths
    return float(2 * precision * recall / (precision + recall))


class BoundaryIoU(Metric):
    """Intersection over union of the pixels along the inside of outlines (Cheng et al., CVPR 2021, §4).

    Of a class in truth and prediction, the pixels count that are at most d pixels from one of another label or from
    outside the image, as squares dilate: d is a share of the image's diagonal, rounded, and at least 1. Intersections
    and unions are summed over images, and the one number is the mean over classes that occur in either. Ignored pixels
    are taken out of both maps first.

    Args:
        num_classes: Number of classes C.
        ratio: d over the diagonal of an image; 0.02 for most data sets.
        ignore_index: Target value of the pixels that do not count.

    Raises:
        AtrousError: The ratio is not between 0 and 1.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    intersection: Tensor
    union: Tensor

    def __init__(self, num_classes: int, *, ratio: float = 0.02, ignore_index: int = 255) -> None:
        super().__init__()
        require_range("ratio", ratio, above=0, at_most=1)
        self.num_classes = num_classes
        self.ratio = ratio
        self.ignore_index = ignore_index
        for name in ("intersection", "union"):
            self.add_state(name, torch.zeros(num_classes, dtype=torch.int64), dist_reduce_fx="sum")

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
            width = max(1, round(self.ratio * math.hypot(*truth.shape)))
            counted = truth != self.ignore_index
            guess = np.where(counted, guess, self.ignore_index)
            true = counted & (distance_to_other_labels(truth) <= width)
            predicted = counted & (distance_to_other_labels(guess) <= width)
            both = self._count(truth, true & predicted & (truth == guess))
            self.intersection += both
            self.union += self._count(truth, true) + self._count(guess, predicted) - both

    def compute(self) -> BoundaryScores:
        """Scores of everything counted; all nan if nothing was counted."""
        classes = self.intersection.double() / self.union  # 0 / 0 is nan
        return BoundaryScores(classes.nanmean().item(), tuple(classes.tolist()))

    def _count(self, labels: Labels, which: Pixels) -> Tensor:
        counts: NDArray[np.int64] = np.bincount(labels[which].astype(np.int64), minlength=self.num_classes)
        return torch.from_numpy(counts).to(self.union.device)
