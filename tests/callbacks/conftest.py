"""A run small enough to fit hundreds of times, with everything that callbacks look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader

from atrous.data.label_space import LabelSpace
from atrous.metrics import Protocol, Scores, SegmentationScore

SPACE = LabelSpace("toy", ("sky", "sea"), ((10, 20, 250), (0, 90, 160)))


class TinyTask(LightningModule):
    """One 1×1 convolution with batch norm that tells dark pixels from bright ones."""

    def __init__(self) -> None:
        super().__init__()
        self.segmentor = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
        self.label_space = SPACE
        self.score = SegmentationScore(2)
        self.last_scores: Scores | None = None
        self.last_confusion: Tensor | None = None

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        logits = self.segmentor(batch["image"] / 255)
        loss = nn.functional.cross_entropy(logits, batch["mask"].long(), ignore_index=255)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        prediction = self.segmentor(batch["image"] / 255).argmax(dim=1)
        self.score.update(prediction, batch["mask"])
        return {"prediction": prediction.to(torch.uint8)}

    def on_validation_epoch_end(self) -> None:
        self.last_scores, self.last_confusion = self.score.compute(), self.score.total_confusion()
        self.score.reset()
        if not self.trainer.sanity_checking:
            self.log_dict({"val/miou": self.last_scores.miou, "val/pixel_accuracy": self.last_scores.pixel_accuracy})

    def bands(self, image: Tensor) -> Iterator[tuple[slice, Tensor]]:
        probabilities = self.segmentor(image / 255).softmax(dim=1)
        for rows in (slice(0, 2), slice(2, 6)):
            yield rows, probabilities[:, :, rows]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.5)

    def protocol(self, stage: str, *, checkpoint: str | None = None) -> Protocol:
        return Protocol("toy", stage, 1, checkpoint=checkpoint)


def sample(index: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(index)
    image = torch.randint(0, 256, (3, 6, 8), generator=generator).to(torch.uint8)
    mask = (image.float().mean(dim=0) > 127).to(torch.uint8)
    mask[0, 0] = 255
    return {"image": image, "mask": mask, "name": f"toy-{index}", "size": (6, 8), "index": index}


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "image": torch.stack([each["image"] for each in samples]),
        "mask": torch.stack([each["mask"] for each in samples]),
        "name": [each["name"] for each in samples],
        "size": [each["size"] for each in samples],
        "index": [each["index"] for each in samples],
    }


@pytest.fixture
def fit() -> Callable[..., tuple[TinyTask, Trainer]]:
    """Train for some steps with a validation after every second one; returns the module and the trainer."""

    def run(
        callbacks: list[Any],
        steps: int = 4,
        ckpt_path: str | None = None,
        order: Any = (0, 1, 2),
        loader: type[DataLoader[Any]] = DataLoader,
        **options: Any,
    ) -> Any:
        torch.manual_seed(0)
        task = TinyTask()
        training = loader([sample(index) for index in range(4)], batch_size=2, collate_fn=collate)
        validation = DataLoader([sample(index) for index in order], batch_size=2, collate_fn=collate)
        settings = {"logger": False, "log_every_n_steps": 1, "num_sanity_val_steps": 1, **options}
        trainer = Trainer(
            accelerator="cpu",
            devices=1,
            max_steps=steps,
            callbacks=callbacks,
            enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
            enable_model_summary=False,
            enable_progress_bar=any("Progress" in type(callback).__name__ for callback in callbacks),
            **settings,
        )
        trainer.fit(task, training, validation, ckpt_path=ckpt_path)
        return task, trainer

    return run
