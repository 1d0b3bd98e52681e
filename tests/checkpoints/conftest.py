"""Small networks and the checkpoints that hold them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from atrous.checkpoints import Card
from atrous.data.label_space import LabelSpace
from atrous.models.backbones import TimmBackbone
from atrous.models.heads import DeepLabV3PlusHead
from atrous.models.segmentor import Segmentor

SPACE = LabelSpace(
    "toy", ("sky", "sea", "sand"), ((10, 20, 250), (0, 90, 160), (220, 200, 90)), ignored_raw_ids=(255, 9)
)


@pytest.fixture
def card() -> Card:
    """A card with every kind of plain value."""
    return Card(
        label_space=SPACE,
        preprocessing={"mean": [1.5, 2.5, 3.5], "channels": "RGB"},
        recipe={"model": {"rates": [6, 12, 18], "separable": True, "momentum": None}, "seed": 3},
        score={"miou": 0.5, "iou": {"sky": float("nan")}, "step": 40},
    )


@pytest.fixture
def network() -> Callable[..., Segmentor]:
    """Builds a small network; another seed gives other weights."""

    def build(seed: int = 0, *, num_classes: int = 3, backbone: str = "test_resnet", **options: Any) -> Segmentor:
        torch.manual_seed(seed)
        head = partial(
            DeepLabV3PlusHead, **{"aspp_channels": 8, "low_level_channels": 4, "decoder_channels": 8, **options}
        )
        return Segmentor(backbone=TimmBackbone(backbone), head=head, num_classes=num_classes)

    return build


@pytest.fixture
def checkpoint_of(tmp_path: Path, card: Card) -> Callable[[Segmentor], Path]:
    """Writes what a run writes, as far as it matters to readers."""

    def write(segmentor: Segmentor) -> Path:
        path = tmp_path / "run.ckpt"
        state = {f"segmentor.{name}": tensor for name, tensor in segmentor.state_dict().items()}
        torch.save({"state_dict": {**state, "loss.other": torch.ones(1)}, "epoch": 1, Card.KEY: card.to_dict()}, path)
        return path

    return write
