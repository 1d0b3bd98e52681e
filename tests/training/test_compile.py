"""Training a compiled network takes the steps of an uncompiled one."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest
import torch
from lightning.pytorch import Trainer

from atrous.data import SegmentationDataModule
from atrous.models.segmentor import Segmentor
from atrous.training import SegmentationTask


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler on the CPU")
def test_two_steps_of_a_compiled_network(
    task: Callable[..., SegmentationTask],
    data: Callable[..., SegmentationDataModule],
    trainer: Callable[..., Trainer],
    segmentor: Callable[..., Segmentor],
) -> None:
    weights, losses = [], []
    for compiled in (False, True):
        training = task(segmentor=segmentor(dropout=0.0), compile=compiled)
        runner = trainer(max_steps=2)
        runner.fit(training, datamodule=data())
        weights.append(training.segmentor.state_dict())
        losses.append(float(runner.callback_metrics["train/loss"]))
    torch.compiler.reset()
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, rtol=1e-3, atol=1e-4, msg=name)
