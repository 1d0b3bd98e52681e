"""What the callbacks need from a LightningModule that scores segmentation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from torch import Tensor

from atrous.data.label_space import LabelSpace
from atrous.inference import Band, Inference, Stage
from atrous.metrics import Protocol as ScoreProtocol
from atrous.metrics import Scores


class ScoredModule(Protocol):
    """A module that keeps its validation scores.

    Attributes:
        label_space: What the classes are.
        last_scores: Scores of the latest validation; None before the first one.
        last_confusion: Its confusion matrix, int64, on the CPU.
        stages: What is done around its inference; see ``inference``.
    """

    label_space: LabelSpace
    last_scores: Scores | None
    last_confusion: Tensor | None
    stages: list[Stage]

    @property
    def inference(self) -> Inference:
        """From network and images to probabilities, with all stages around it."""

    def bands(self, image: Tensor) -> Iterator[Band]:
        """Probabilities of images B×3×H×W, some rows at a time; see ``Inference``."""

    def protocol(self, stage: str, *, checkpoint: str | None = None) -> ScoreProtocol:
        """How scores of ``val`` or ``test`` are measured."""
