"""From label maps to segmentation scores: one confusion matrix, counted in integers, and what is computed from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from atrous.errors import AtrousError


def confusion_matrix(prediction: Tensor, target: Tensor, num_classes: int, ignore_index: int = 255) -> Tensor:
    """Count how often each true class was given each label.

    Args:
        prediction: Class ids, any integer dtype and any shape (usually B×H×W), 0 to ``num_classes`` - 1 wherever
            ``target`` is not ignored.
        target: Class ids of the same shape, or ``ignore_index``.
        num_classes: Number of classes C.
        ignore_index: Target value of the pixels that do not count.

    Returns:
        int64 C×C on the device of ``target``; row = truth, column = prediction.

    Raises:
        AtrousError: The shapes differ, the values are not integers, or an id lies outside 0 to C - 1; nothing is
            counted then. On a GPU this check adds no extra wait: ``torch.bincount`` reads its range back anyway.
    """
    _require_label_maps(prediction, target)
    truth = target.reshape(-1).long()
    guess = prediction.reshape(-1).long()
    counted = truth != ignore_index
    known = (truth >= 0) & (truth < num_classes) & (guess >= 0) & (guess < num_classes)
    # Two bins after the matrix: ignored pixels, and ids that no class has (which would alias a cell otherwise).
    ignored_bin, unknown_bin = num_classes**2, num_classes**2 + 1
    cell = torch.where(known, truth * num_classes + guess, unknown_bin)
    cell = torch.where(counted, cell, ignored_bin)
    counts = torch.bincount(cell, minlength=num_classes**2 + 2)
    if counts[unknown_bin] > 0:
        raise AtrousError(_name_unknown_ids(guess[counted], truth[counted], num_classes, ignore_index))
    return counts[: num_classes**2].reshape(num_classes, num_classes)


def require_class_ids(prediction: Tensor, target: Tensor, num_classes: int, ignore_index: int = 255) -> None:
    """Refuse label maps that ``confusion_matrix`` would refuse; arguments and errors are the same."""
    _require_label_maps(prediction, target)
    counted = target != ignore_index
    if any(bool(((ids < 0) | (ids >= num_classes)).any()) for ids in (target[counted], prediction[counted])):
        raise AtrousError(_name_unknown_ids(prediction[counted], target[counted], num_classes, ignore_index))


def _require_label_maps(prediction: Tensor, target: Tensor) -> None:
    if prediction.shape != target.shape:
        raise AtrousError(
            f"prediction has shape {tuple(prediction.shape)} but target has {tuple(target.shape)}; "
            "bring both to the same size before scoring"
        )
    for what, ids in (("prediction", prediction), ("target", target)):
        if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
            raise AtrousError(f"{what} has dtype {ids.dtype}, but class ids are integers: take the argmax of scores")


def _name_unknown_ids(guess: Tensor, truth: Tensor, num_classes: int, ignore_index: int) -> str:
    found = []
    for what, ids in (("target", truth), ("prediction", guess)):
        unknown_ids = sorted(set(ids[(ids < 0) | (ids >= num_classes)].tolist()))
        if unknown_ids:
            found.append(f"{what} contains class ids {unknown_ids}")
    return (
        f"{' and '.join(found)}, outside 0 to {num_classes - 1} and not the ignored id {ignore_index}; "
        "check the label space of the data set and the number of classes of the model"
    )


class Scores(NamedTuple):
    """Scores of a confusion matrix, as fractions between 0 and 1; a value without any pixel is nan.

    Attributes:
        miou: Mean of ``iou`` over the classes that occur in ground truth or prediction.
        pixel_accuracy: Share of the counted pixels that are right.
        mean_accuracy: Mean of ``accuracy`` over the classes that occur in the ground truth.
        frequency_weighted_iou: Mean of ``iou`` weighted by each class's share of the ground truth.
        iou: Intersection over union of each class; nan for a class in neither ground truth nor prediction.
        accuracy: Share of each class's true pixels that were found; nan for a class that the ground truth lacks.
    """

    miou: float
    pixel_accuracy: float
    mean_accuracy: float
    frequency_weighted_iou: float
    iou: tuple[float, ...]
    accuracy: tuple[float, ...]

    def to_dict(self, classes: Sequence[str]) -> dict[str, Any]:
        """Plain values for JSON: nan becomes None, per-class values are keyed by class name.

        Args:
            classes: Class names in the order of the ids.
        """
        return {
            "miou": or_none(self.miou),
            "pixel_accuracy": or_none(self.pixel_accuracy),
            "mean_accuracy": or_none(self.mean_accuracy),
            "frequency_weighted_iou": or_none(self.frequency_weighted_iou),
            "iou": {name: or_none(value) for name, value in zip(classes, self.iou, strict=True)},
            "accuracy": {name: or_none(value) for name, value in zip(classes, self.accuracy, strict=True)},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Scores:
        """Inverse of ``to_dict``; the classes keep their order."""
        return cls(
            miou=_or_nan(values["miou"]),
            pixel_accuracy=_or_nan(values["pixel_accuracy"]),
            mean_accuracy=_or_nan(values["mean_accuracy"]),
            frequency_weighted_iou=_or_nan(values["frequency_weighted_iou"]),
            iou=tuple(_or_nan(value) for value in values["iou"].values()),
            accuracy=tuple(_or_nan(value) for value in values["accuracy"].values()),
        )


def pixel_counts(confusion: Tensor, classes: Sequence[str]) -> dict[str, dict[str, int]]:
    """Pixels of each class, by its name: in the ``truth``, in the ``prediction``, and ``right``, that is in both.

    Args:
        confusion: Integers C×C, row = truth, column = prediction.
        classes: The C class names.
    """
    counts = zip(
        confusion.sum(dim=1).tolist(), confusion.sum(dim=0).tolist(), confusion.diagonal().tolist(), strict=True
    )
    return {
        name: {"truth": truth, "prediction": prediction, "right": right}
        for name, (truth, prediction, right) in zip(classes, counts, strict=True)
    }


def scores_from_confusion(confusion: Tensor) -> Scores:
    """Read the IoU family off a confusion matrix, as the PASCAL VOC development kit defines it.

    IoU of a class = true positives / (pixels of the class in the truth + in the prediction - true positives). Classes
    that occur in neither are left out of the means instead of counting as zero. Without a single counted pixel every
    score is nan.

    Args:
        confusion: Integers C×C, row = truth, column = prediction.
    """
    counts = confusion.detach().cpu().double()
    right = counts.diagonal()
    truth = counts.sum(dim=1)
    union = truth + counts.sum(dim=0) - right
    total = counts.sum()
    iou = right / union  # 0 / 0 is nan, which marks the absent classes
    accuracy = right / truth
    return Scores(
        miou=iou.nanmean().item(),
        pixel_accuracy=(right.sum() / total).item(),
        mean_accuracy=accuracy.nanmean().item(),
        frequency_weighted_iou=((truth * iou).nansum() / total).item(),
        iou=tuple(iou.tolist()),
        accuracy=tuple(accuracy.tolist()),
    )


def or_none(value: float) -> float | None:
    """The value for JSON, which knows no nan."""
    return None if math.isnan(value) else value


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
