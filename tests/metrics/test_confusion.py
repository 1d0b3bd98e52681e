"""The confusion matrix and its scores against the definition, pixel by pixel."""

from __future__ import annotations

import json
import math

import pytest
import torch

from atrous.errors import AtrousError
from atrous.metrics import Scores, confusion_matrix, scores_from_confusion

NUM_CLASSES = 5


def random_maps(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A 5×7 prediction and truth with ignored pixels; class 3 occurs nowhere, class 4 in the prediction only."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(0, 3, (5, 7), generator=generator).to(torch.uint8)
    target[torch.rand(5, 7, generator=generator) < 0.2] = 255
    prediction = torch.tensor([0, 1, 2, 4])[torch.randint(0, 4, (5, 7), generator=generator)]
    prediction[0, 0], target[0, 0] = 4, 1
    return prediction, target


def devkit_scores(prediction: torch.Tensor, target: torch.Tensor) -> tuple[list[list[int]], list[float], float]:
    """Counts, IoU of each class and their mean, by the formula of the VOC development kit in plain loops."""
    counts = [[0] * NUM_CLASSES for _ in range(NUM_CLASSES)]
    for row in range(target.shape[0]):
        for column in range(target.shape[1]):
            truth = int(target[row, column])
            if truth != 255:
                counts[truth][int(prediction[row, column])] += 1
    iou = []
    for name in range(NUM_CLASSES):
        in_truth = sum(counts[name])
        in_result = sum(counts[other][name] for other in range(NUM_CLASSES))
        in_both = counts[name][name]
        union = in_truth + in_result - in_both
        iou.append(in_both / union if union else math.nan)
    present = [value for value in iou if not math.isnan(value)]
    return counts, iou, sum(present) / len(present)


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_the_devkit_formula(seed: int) -> None:
    prediction, target = random_maps(seed)
    counts, iou, miou = devkit_scores(prediction, target)

    confusion = confusion_matrix(prediction, target, NUM_CLASSES)
    scores = scores_from_confusion(confusion)

    assert confusion.dtype == torch.int64
    assert confusion.tolist() == counts
    assert scores.iou == pytest.approx(iou, nan_ok=True)
    assert scores.miou == pytest.approx(miou)
    total = sum(map(sum, counts))
    right = sum(counts[name][name] for name in range(NUM_CLASSES))
    assert scores.pixel_accuracy == pytest.approx(right / total)
    found = [counts[name][name] / sum(counts[name]) for name in range(NUM_CLASSES) if sum(counts[name])]
    assert scores.mean_accuracy == pytest.approx(sum(found) / len(found))
    weighted = sum(sum(counts[name]) * iou[name] for name in range(NUM_CLASSES) if sum(counts[name])) / total
    assert scores.frequency_weighted_iou == pytest.approx(weighted)


def test_absent_class_is_left_out_and_invented_class_counts_zero() -> None:
    prediction, target = random_maps(0)
    scores = scores_from_confusion(confusion_matrix(prediction, target, NUM_CLASSES))
    assert math.isnan(scores.iou[3])
    assert math.isnan(scores.accuracy[3])
    assert scores.iou[4] == 0.0, "a class that was predicted but does not occur is a mistake, not an absence"
    assert math.isnan(scores.accuracy[4])


def test_perfect_prediction_scores_one_whatever_is_absent() -> None:
    target = torch.tensor([[0, 2], [255, 0]])
    scores = scores_from_confusion(confusion_matrix(target.clamp(max=3), target, NUM_CLASSES))
    assert scores.miou == scores.pixel_accuracy == scores.mean_accuracy == scores.frequency_weighted_iou == 1.0


def test_all_ignored_gives_nan_not_zero() -> None:
    target = torch.full((2, 3), 255, dtype=torch.uint8)
    confusion = confusion_matrix(torch.zeros(2, 3, dtype=torch.uint8), target, NUM_CLASSES)
    assert confusion.sum() == 0
    scores = scores_from_confusion(confusion)
    assert all(math.isnan(value) for value in (scores.miou, scores.pixel_accuracy, scores.mean_accuracy, *scores.iou))


def test_counts_beyond_float_precision_stay_exact() -> None:
    confusion = confusion_matrix(torch.tensor([0]), torch.tensor([0]), 2) + torch.tensor([[2**60, 0], [0, 0]])
    assert confusion[0, 0].item() == 2**60 + 1


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_many_classes_do_not_overflow_small_dtypes(dtype: torch.dtype) -> None:
    ids = torch.arange(100).to(dtype)
    assert torch.equal(confusion_matrix(ids, ids, 100), torch.eye(100, dtype=torch.int64))


def test_other_ignore_index() -> None:
    confusion = confusion_matrix(torch.tensor([0, 1, 1]), torch.tensor([0, -1, 1]), 2, ignore_index=-1)
    assert confusion.tolist() == [[1, 0], [0, 1]]


def test_prediction_under_an_ignored_pixel_may_be_anything() -> None:
    confusion = confusion_matrix(torch.tensor([255, 1]), torch.tensor([255, 1]), 2)
    assert confusion.tolist() == [[0, 0], [0, 1]]


def test_ids_outside_the_classes_are_named() -> None:
    with pytest.raises(AtrousError, match=r"target contains class ids \[7, 9\], outside 0 to 4"):
        confusion_matrix(torch.tensor([0, 1, 2]), torch.tensor([9, 7, 1]), NUM_CLASSES)
    with pytest.raises(AtrousError, match=r"prediction contains class ids \[255\]"):
        confusion_matrix(torch.tensor([0, 255]), torch.tensor([0, 1]), NUM_CLASSES)
    with pytest.raises(AtrousError, match=r"target contains class ids \[-1\]"):
        confusion_matrix(torch.tensor([0]), torch.tensor([-1]), NUM_CLASSES)


def test_shapes_and_dtypes_are_checked() -> None:
    with pytest.raises(AtrousError, match=r"\(2, 3\) but target has \(3, 2\)"):
        confusion_matrix(torch.zeros(2, 3).long(), torch.zeros(3, 2).long(), NUM_CLASSES)
    with pytest.raises(AtrousError, match="argmax"):
        confusion_matrix(torch.zeros(2, 3), torch.zeros(2, 3).long(), NUM_CLASSES)


def test_scores_survive_json() -> None:
    scores = scores_from_confusion(confusion_matrix(*random_maps(1), NUM_CLASSES))
    text = json.dumps(scores.to_dict("abcde"), allow_nan=False)
    back = Scores.from_dict(json.loads(text))
    assert back.miou == scores.miou
    assert back.iou == pytest.approx(scores.iou, nan_ok=True)
    assert back.accuracy == pytest.approx(scores.accuracy, nan_ok=True)
