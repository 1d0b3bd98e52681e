"""A task that trains within a second: a tiny network on random pictures."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

from atrous.data import LabelSpace, RawSample, Sample, SegmentationDataModule, SegmentationDataset, to_sample
from atrous.inference import WholeImage
from atrous.losses import CrossEntropy
from atrous.models.backbones import TimmBackbone
from atrous.models.heads import DeepLabV3PlusHead
from atrous.models.segmentor import Segmentor
from atrous.training import SegmentationTask
from atrous.training.schedules import Poly

SPACE = LabelSpace("toy", ("dark", "middle", "bright"), ((0, 0, 0), (90, 90, 90), (250, 250, 250)))


class Pictures(SegmentationDataset):
    """Noise whose class is its brightness, with ignored pixels; every image has another share of them."""

    label_space = SPACE

    def __init__(self, *, split: str) -> None:
        self.split = split
        self.names = [f"{split}-{i}" for i in range(8 if split == "train" else 3)]

    def __getitem__(self, index: int) -> RawSample:
        generator = np.random.default_rng((index, len(self.split)))
        mask = generator.integers(0, 3, (5, 5), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)[:33, :33]
        noise = generator.integers(0, 60, (33, 33, 3))
        image = (noise + 90 * mask[..., None].astype(int)).clip(0, 255).astype(np.uint8)
        mask = np.where(generator.random((33, 33)) < 0.1 * (index + 1), 255, mask).astype(np.uint8)
        return RawSample(image, mask, self.names[index])


def unchanged(raw: RawSample, seed: int) -> Sample:
    """No augmentation."""
    return to_sample(raw)


@pytest.fixture
def segmentor() -> Callable[..., Segmentor]:
    """Builds a tiny network with the same weights every time."""

    def build(backbone: str = "test_resnet", num_classes: int = 3, **options: Any) -> Segmentor:
        torch.manual_seed(0)
        small = {"aspp_channels": 8, "low_level_channels": 4, "decoder_channels": 8, "dropout": 0.5}
        head = partial(DeepLabV3PlusHead, **{**small, **options})
        return Segmentor(backbone=TimmBackbone(backbone), head=head, num_classes=num_classes)

    return build


@pytest.fixture
def task(segmentor: Callable[..., Segmentor]) -> Callable[..., SegmentationTask]:
    """Builds a task ready to train."""

    def build(**options: Any) -> SegmentationTask:
        settings: dict[str, Any] = {
            "segmentor": segmentor() if "segmentor" not in options else None,
            "inference": WholeImage(),
            "label_space": SPACE,
            "splits": {"val": "val", "test": "test"},
            "loss": CrossEntropy(),
            "optimizer": partial(torch.optim.SGD, momentum=0.9),
            "schedule": Poly(),
            "learning_rate": 0.01,
        }
        return SegmentationTask(**{**settings, **options})

    return build


@pytest.fixture
def data() -> Callable[..., SegmentationDataModule]:
    """Builds the data of a run."""

    def build(**options: Any) -> SegmentationDataModule:
        settings: dict[str, Any] = {"batch_size": 4, "eval_batch_size": 2, "validate_every": 2, "num_workers": 0}
        return SegmentationDataModule(dataset=Pictures, augment=unchanged, **{**settings, **options})

    return build


@pytest.fixture
def trainer() -> Callable[..., Trainer]:
    """Builds a quiet trainer on the CPU."""

    def build(**options: Any) -> Trainer:
        settings: dict[str, Any] = {
            "accelerator": "cpu",
            "devices": 1,
            "max_steps": 2,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "use_distributed_sampler": False,
        }
        return Trainer(**{**settings, **options})

    return build
