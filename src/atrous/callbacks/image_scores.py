"""Every image by itself in validation and test: its score, and the worst, median and best ones as pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from torch import Tensor

from atrous.callbacks.best_checkpoint import keeps_best
from atrous.callbacks.scored_module import ScoredModule
from atrous.data.dataset import Sample
from atrous.data.label_space import LabelSpace
from atrous.errors import require_range
from atrous.loggers import LabeledImage, image_loggers
from atrous.metrics import confusion_matrix, scores_from_confusion
from atrous.reports import (
    DrawnImage,
    ImageScore,
    Thumbnail,
    extremes,
    resized_labels,
    small_image,
    small_mask,
    tiles,
    write_drawn_images,
    write_image_scores,
    write_thumbnails,
)


class ImageScores(Callback):
    """Scores every image by itself, and draws those on which the network does worst, middling and best.

    The run's folder gets ``images/scores.csv``, ``images/thumbnails.zip`` with small pictures of input, truth and
    prediction, and a folder such as ``images/worst_1`` for each image that is drawn, with its tiles and the mean
    probability of what was predicted. They are of the best validation so far if its weights are kept, otherwise of the
    latest; or of a test. Images are scored on all their labeled pixels. Loggers that show images get those that are
    drawn.

    Args:
        run_dir: Folder of the run.
        count: Images of each kind that are drawn.
        thumbnails: Images, from the first one, that have thumbnails.

    Raises:
        AtrousError: A number is out of range.
    """

    def __init__(self, run_dir: str | Path, *, count: int = 3, thumbnails: int = 1000) -> None:
        require_range("callbacks.images.count", count, at_least=1)
        require_range("callbacks.images.thumbnails", thumbnails, at_least=0)
        self._folder = Path(run_dir) / "images"
        self._count = count
        self._thumbnails = thumbnails
        self._best: float | None = None
        self._scores: list[ImageScore] = []
        self._predictions: dict[int, bytes] = {}
        self._inputs: dict[int, tuple[bytes, bytes]] = {}  # image and truth, which are the same every time
        self._drawn: list[DrawnImage] = []
        self._shown: list[LabeledImage] = []

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin."""
        self._begin()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin."""
        self._begin()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Score the images of a batch."""
        if not trainer.sanity_checking:
            self._count_batch(cast("ScoredModule", pl_module), outputs["prediction"], batch)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Score the images of a batch."""
        self._count_batch(cast("ScoredModule", pl_module), outputs["prediction"], batch)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw, as long as the weights that were scored are there."""
        if not trainer.sanity_checking:
            self._draw(trainer, pl_module, trainer.val_dataloaders)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw."""
        self._draw(trainer, pl_module, trainer.test_dataloaders)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what belongs to the weights that are kept."""
        module = cast("ScoredModule", pl_module)
        scores = module.last_scores
        if trainer.sanity_checking or scores is None:
            return
        better = self._best is None or scores.miou > self._best or math.isnan(self._best)
        if better or not keeps_best(trainer):
            self._best = scores.miou
            self._write(trainer, module.label_space)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write."""
        self._write(trainer, cast("ScoredModule", pl_module).label_space)

    def state_dict(self) -> dict[str, Any]:
        """The best score, whose images are in the folder."""
        return {"best": self._best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume from the checkpoint's best score."""
        self._best = state_dict["best"]

    def _begin(self) -> None:
        self._scores, self._predictions, self._drawn, self._shown = [], {}, [], []

    def _count_batch(self, module: ScoredModule, predictions: Tensor, batch: Mapping[str, Any]) -> None:
        space = module.label_space
        for place, (index, name) in enumerate(zip(batch["index"], batch["name"], strict=True)):
            truth, prediction = batch["mask"][place], predictions[place]
            confusion = confusion_matrix(prediction, truth, space.num_classes, space.ignore_index).cpu()
            if pixels := int(confusion.sum()):
                scores = scores_from_confusion(confusion)
                self._scores.append(ImageScore(index, name, scores.miou, scores.pixel_accuracy, pixels))
                if index < self._thumbnails:
                    self._predictions[index] = small_mask(_ids(prediction), space)
                    if index not in self._inputs:
                        image = batch["image"][place].permute(1, 2, 0)
                        self._inputs[index] = small_image(_ids(image)), small_mask(_ids(truth), space)

    def _draw(self, trainer: Trainer, module: LightningModule, loader: Any) -> None:
        """Predict the extreme images once more, in all processes alike, with their probabilities."""
        if trainer.world_size > 1:
            parts: list[Any] = [None] * trainer.world_size
            dist.all_gather_object(parts, (self._scores, self._predictions, self._inputs))
            self._scores = [score for scores, _, _ in parts for score in scores]
            for _, predictions, inputs in parts:
                self._predictions |= predictions
                self._inputs |= inputs
        scored = cast("ScoredModule", module)
        for kind, images in extremes(self._scores, self._count).items():
            for number, score in enumerate(images, start=1):
                sample: Sample = loader.dataset[score.index]
                with trainer.precision_plugin.forward_context():
                    prediction, confidence = _predicted(scored, sample["image"].to(module.device))
                if not trainer.is_global_zero:
                    continue
                space, truth = scored.label_space, sample["mask"]
                drawn = tiles(sample["image"], truth, prediction, space, score.name, confidence=confidence)
                mean = float(confidence[truth != space.ignore_index].mean())
                self._drawn.append(DrawnImage(kind, number, score, mean, drawn))
                height, width = drawn["input"].shape[:2]
                self._shown.append(
                    LabeledImage(
                        kind,
                        score.name,
                        {"mIoU": score.miou, "pixel accuracy": score.pixel_accuracy, "confidence": mean},
                        drawn["input"],
                        resized_labels(_ids(truth), (width, height)),
                        resized_labels(_ids(prediction), (width, height)),
                        np.concatenate(list(drawn.values()), axis=1),
                    )
                )

    def _write(self, trainer: Trainer, space: LabelSpace) -> None:
        if not trainer.is_global_zero or not self._scores:
            return
        classes = dict(enumerate(space.classes)) | {space.ignore_index: "ignored"}
        for logger in image_loggers(trainer.loggers):
            logger.log_labeled("images", self._shown, classes, trainer.global_step)
        write_image_scores(self._folder / "scores.csv", self._scores)
        write_drawn_images(self._folder, self._drawn)
        thumbnails = (
            (index, Thumbnail(*self._inputs[index], self._predictions[index])) for index in sorted(self._predictions)
        )
        write_thumbnails(self._folder / "thumbnails.zip", thumbnails)


def _ids(values: Tensor) -> NDArray[np.uint8]:
    return values.to(torch.uint8).cpu().numpy()


def _predicted(module: ScoredModule, image: Tensor) -> tuple[Tensor, Tensor]:
    """Classes H×W of an image 3×H×W and their probabilities, on the CPU."""
    classes, confidences = [], []
    for _, probabilities in module.bands(image.unsqueeze(0)):  # 1×C×n×W
        confidence, labels = probabilities.max(dim=1)
        classes.append(labels[0].cpu())
        confidences.append(confidence[0].float().cpu())
    return torch.cat(classes), torch.cat(confidences)
