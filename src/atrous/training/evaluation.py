"""Validation and test of a network under Lightning."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torchmetrics import MeanMetric

from atrous.data import SegmentationDataModule
from atrous.data.label_space import LabelSpace
from atrous.errors import AtrousError, require_range
from atrous.inference import Band, Inference, Stage, most_probable
from atrous.metrics.confusion import Scores
from atrous.metrics.protocol import Protocol
from atrous.metrics.segmentation_score import SegmentationScore
from atrous.metrics.trimap import within_trimap
from atrous.models import Network

Batch = Mapping[str, Any]

LOGGED = {
    "miou": "miou",
    "pixel_accuracy": "pixel_accuracy",
    "mean_accuracy": "mean_accuracy",
    "fwiou": "frequency_weighted_iou",
}
"""Numbers of ``Scores`` by their names in the logs."""


class EvaluationTask(LightningModule):
    """Joins network, inference and score.

    Args:
        segmentor: The network.
        inference: From network and images to probabilities.
        label_space: The data set's classes.
        splits: Name of the split behind ``val`` and ``test``, for the protocol.
        trimap_width: Score only pixels at most this far from an ignored one; ``None`` for whole images.
        channels_last: Lay tensors out with channels last; faster with most convolution libraries.

    Raises:
        AtrousError: The network has another number of classes than the data set, or a value is impossible.

    Attributes:
        segmentor: The network.
        label_space: What its classes are.
        stages: What is done around ``inference`` in validation and test; callbacks add and remove them.
        last_scores: Scores of the latest validation or test.
        last_confusion: Its confusion matrix, int64, on the CPU.
    """

    segmentor: Network

    def __init__(
        self,
        *,
        segmentor: Network,
        inference: Inference,
        label_space: LabelSpace,
        splits: Mapping[str, str],
        trimap_width: int | None = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        if segmentor.num_classes != label_space.num_classes:
            raise AtrousError(
                f"the network has {segmentor.num_classes} classes, the data set {label_space.name!r} has "
                f"{label_space.num_classes}: build it with num_classes={label_space.num_classes}"
            )
        require_range("trimap_width", trimap_width, at_least=1)
        self.segmentor = segmentor
        self.label_space = label_space
        self.stages: list[Stage] = []
        self.last_scores: Scores | None = None
        self.last_confusion: Tensor | None = None
        self._inference = inference
        self._splits = dict(splits)
        self._trimap_width = trimap_width
        self._memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self._protocols: dict[str, Protocol] = {}
        self._score_card: dict[str, Any] | None = None
        self._confusion = SegmentationScore(label_space.num_classes, ignore_index=label_space.ignore_index)
        self._validation_loss = MeanMetric()
        if channels_last:
            self.segmentor.to(memory_format=torch.channels_last)

    def on_test_start(self) -> None:
        """Forget how the last test was measured: masks may be written while this one runs."""
        self._protocols.pop("test", None)

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Predict whole images and count."""
        return self._evaluate(batch)

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Predict whole images and count."""
        return self._evaluate(batch)

    def on_validation_epoch_end(self) -> None:
        """Score the validation split."""
        self._finish_evaluation("val")

    def on_test_epoch_end(self) -> None:
        """Score the test split."""
        self._finish_evaluation("test")

    @property
    def inference(self) -> Inference:
        """From network and images to probabilities, with all stages around it."""
        return functools.reduce(lambda inference, stage: stage.wrap(inference), self.stages, self._inference)

    def bands(self, image: Tensor) -> Iterator[Band]:
        """Probabilities of images B×3×H×W, some rows at a time; see ``Inference``."""
        return self.inference.bands(self.segmentor, self._images(image))

    def protocol(self, stage: str, *, checkpoint: str | None = None) -> Protocol:
        """How the latest scores of ``val`` or ``test`` were measured; before there are any, how they would be."""
        measured = self._protocols.get(stage) or self._protocol(stage)
        return dataclasses.replace(measured, checkpoint=checkpoint)

    def _protocol(self, stage: str) -> Protocol:
        data = getattr(self.trainer, "datamodule", None)
        protocol = Protocol(
            dataset=self.label_space.name,
            split=self._splits[stage],
            output_stride=self.segmentor.output_stride,
            scales=self.segmentor.input_scales,
            trimap_width=self._trimap_width,
            crf=None if self.segmentor.crf is None else self.segmentor.crf.description,
            precision=self.segmentor.precision or str(self.trainer.precision),
            subset=data.subset(stage) if isinstance(data, SegmentationDataModule) else None,
            shrink=data.shrink if isinstance(data, SegmentationDataModule) else 1,
        )
        return dataclasses.replace(protocol, **self.inference.protocol)

    def _images(self, image: Tensor) -> Tensor:
        return image.contiguous(memory_format=self._memory_format)

    def _evaluate(self, batch: Batch) -> dict[str, Tensor]:
        mask: Tensor = batch["mask"]  # uint8 B×H×W
        if self._trimap_width is not None:
            mask = within_trimap(mask, self._trimap_width, ignore_index=self.label_space.ignore_index)
        prediction = torch.empty_like(mask)
        for rows, probabilities in self.bands(batch["image"]):  # B×C×n×W
            labels = most_probable(probabilities)  # B×n×W
            truth = mask[:, rows].long()
            counted = truth != self.label_space.ignore_index
            of_truth = probabilities.gather(1, truth.where(counted, 0).unsqueeze(1)).squeeze(1)  # of the true class
            losses = -of_truth.clamp(min=torch.finfo(of_truth.dtype).tiny).log()
            self._validation_loss.update(losses, weight=counted.to(losses.dtype))
            self._confusion.update(labels, truth)
            prediction[:, rows] = labels.to(prediction.dtype)
        return {"prediction": prediction}

    def _finish_evaluation(self, stage: str) -> None:
        scores = self._confusion.compute()
        self.last_scores, self.last_confusion = scores, self._confusion.total_confusion()
        if self._trimap_width is not None and not self.last_confusion.any() and not self.trainer.sanity_checking:
            raise AtrousError(
                f"no labeled pixel of {self.label_space.name} {self._splits[stage]} is within "
                f"trimap_width={self._trimap_width} of an ignored one: set trimap_width=null to score whole images"
            )
        loss = float(self._validation_loss.compute())
        self._confusion.reset()
        self._validation_loss.reset()
        if self.trainer.sanity_checking:
            return
        self._protocols[stage] = self._protocol(stage)  # stages may be gone when somebody asks
        self._score_card = {
            **scores.to_dict(self.label_space.classes),
            "protocol": self.protocol(stage).to_dict(),
            "step": self.global_step,
        }
        values = {"loss": loss, **{name: getattr(scores, score) for name, score in LOGGED.items()}}
        values |= {f"iou/{name}": iou for name, iou in zip(self.label_space.classes, scores.iou, strict=True)}
        self.log_dict({f"{stage}/{name}": value for name, value in values.items()}, rank_zero_only=False)
