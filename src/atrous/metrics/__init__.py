"""Scores of segmentation: the confusion matrix, the IoU family, and the protocol that belongs to every number."""

from atrous.metrics.border_scores import BorderScores
from atrous.metrics.boundary import BoundaryF1, BoundaryIoU, BoundaryScores
from atrous.metrics.confusion import Scores, confusion_matrix, pixel_counts, scores_from_confusion
from atrous.metrics.protocol import Protocol
from atrous.metrics.segmentation_score import SegmentationScore
from atrous.metrics.trimap import TrimapScore

__all__ = [
    "BorderScores",
    "BoundaryF1",
    "BoundaryIoU",
    "BoundaryScores",
    "Protocol",
    "Scores",
    "SegmentationScore",
    "TrimapScore",
    "confusion_matrix",
    "pixel_counts",
    "scores_from_confusion",
]
