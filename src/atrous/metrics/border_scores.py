"""What is known about the borders of a prediction: bands of many widths, and outlines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from atrous.metrics.boundary import BoundaryScores
from atrous.metrics.confusion import Scores, or_none


@dataclass(frozen=True)
class BorderScores:
    """Scores near borders, and of the borders themselves.

    Attributes:
        bands: By what counts as a border (``void`` or ``classes``) and by width in pixels: scores of the pixels in the
            band; see ``TrimapScore``.
        f1: Boundary F1; see ``BoundaryF1``.
        iou: Boundary IoU; see ``BoundaryIoU``.
    """

    bands: Mapping[str, Mapping[int, Scores]]
    f1: BoundaryScores
    iou: BoundaryScores

    def to_dict(self, classes: Sequence[str]) -> dict[str, Any]:
        """Plain values for JSON; nan becomes None.

        Args:
            classes: Class names in the order of the ids.
        """
        return {
            "trimap": {
                name: {
                    str(width): {"miou": or_none(each.miou), "pixel_accuracy": or_none(each.pixel_accuracy)}
                    for width, each in bands.items()
                }
                for name, bands in self.bands.items()
            },
            "boundary_f1": _outlines(self.f1, classes),
            "boundary_iou": _outlines(self.iou, classes),
        }


def _outlines(scores: BoundaryScores, classes: Sequence[str]) -> dict[str, Any]:
    of_classes = zip(classes, map(or_none, scores.classes), strict=True)
    return {"mean": or_none(scores.mean), "classes": dict(of_classes)}
