"""What a test costs is the time of its steps, an image, and the memory that they take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from atrous.callbacks import CostMeter, cost_meter
from atrous.memory import peak_memory


class Batches(IterableDataset[dict[str, list[str]]]):
    """Two images, and one."""

    def __iter__(self) -> Iterator[dict[str, list[str]]]:
        yield {"name": ["a", "b"]}
        yield {"name": ["c"]}


class Slow(LightningModule):
    """Sleeps and takes memory."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        begun = time.perf_counter()
        time.sleep(0.05)
        torch.ones(60_000_000)
        self.seconds += time.perf_counter() - begun
        return {}


class Slower(Callback):
    """What other callbacks do is not the network's."""

    def on_test_batch_end(self, *arguments: Any, **options: Any) -> None:
        time.sleep(0.5)


def run(meter: CostMeter) -> Slow:
    batches = DataLoader(Batches(), batch_size=None)
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        callbacks=[meter, Slower()],
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    module = Slow()
    trainer.test(module, batches, verbose=False)
    return module


def test_seconds_of_an_image_and_the_peak() -> None:
    meter = CostMeter()
    module = run(meter)
    assert meter.last is not None
    assert module.seconds <= 3 * meter.last.seconds < module.seconds + 0.5
    assert meter.last.memory is not None
    assert 240e6 < meter.last.memory == peak_memory()


def test_a_peak_of_before_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost_meter, "forget_peak_memory", lambda: False)
    meter = CostMeter()
    run(meter)
    assert meter.last is not None
    assert meter.last.memory is None
