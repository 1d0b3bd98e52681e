"""The moving average follows its formula, scores with the averaged weights and resumes exactly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from atrous.callbacks import MovingAverage, ResumePoint
from atrous.callbacks.moving_average import average


class Watch(Callback):
    """Copies of the first weight: as trained after each step, and as validated."""

    def __init__(self) -> None:
        self.trained: list[torch.Tensor] = []
        self.validated: list[torch.Tensor] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        self.trained.append(next(pl_module.parameters()).detach().clone())

    def on_validation_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        if not trainer.sanity_checking:
            self.validated.append(next(pl_module.parameters()).detach().clone())


def expected(trained: list[torch.Tensor], decay: float) -> torch.Tensor:
    value = trained[0]
    for number, weight in enumerate(trained[1:], start=1):
        kept = min(decay, (1 + number) / (10 + number))
        value = kept * value + (1 - kept) * weight
    return value


@pytest.mark.parametrize("decay", [0.999, 0.25])
def test_validation_sees_the_average(fit: Callable[..., Any], decay: float) -> None:
    watch = Watch()
    task, _ = fit([MovingAverage(decay), watch], steps=6)
    torch.testing.assert_close(watch.validated[-1], expected(watch.trained, decay))
    torch.testing.assert_close(next(task.parameters()).detach(), expected(watch.trained, decay))
    assert not torch.allclose(watch.validated[-1], watch.trained[-1])


def test_start_step(fit: Callable[..., Any]) -> None:
    watch = Watch()
    task, _ = fit([MovingAverage(start_step=3), watch], steps=6)
    torch.testing.assert_close(next(task.parameters()).detach(), expected(watch.trained[3:], 0.999))


def test_statistics_are_averaged_and_counters_copied(fit: Callable[..., Any]) -> None:
    plain, _ = fit([], steps=6)
    averaged, _ = fit([MovingAverage()], steps=6)
    assert averaged.segmentor[1].num_batches_tracked == plain.segmentor[1].num_batches_tracked == 6
    assert averaged.segmentor[1].running_mean.abs().max() > 0
    assert not torch.equal(averaged.segmentor[1].running_mean, plain.segmentor[1].running_mean)


def test_constant_values_stay_exact() -> None:
    mean = torch.tensor([0.485, 123.675])
    half = torch.full((2,), 0.1, dtype=torch.float16)
    for value in (mean, half):
        averaged = value.clone()
        average(0.999, [averaged], [value], torch.tensor(7))
        assert torch.equal(averaged, value)


def test_averages_of_several_tensors_follow_the_formula() -> None:
    old = [torch.randn(3, 2), torch.randn(5)]
    new = [torch.randn(3, 2), torch.randn(5)]
    averaged = [tensor.clone() for tensor in old]
    average(0.999, averaged, new, torch.tensor(3))
    for ours, before, now in zip(averaged, old, new, strict=True):
        torch.testing.assert_close(ours, 4 / 13 * before + 9 / 13 * now)


class Killed(Exception):
    """End of a process."""


class Kill(Callback):
    def on_train_batch_start(self, trainer: Trainer, *args: Any) -> None:
        if trainer.global_step == 4:
            raise Killed


def test_resumed_average_equals_the_uninterrupted_one(fit: Callable[..., Any], tmp_path: Path) -> None:
    whole, _ = fit([MovingAverage(0.9)], steps=6)
    path = tmp_path / "last.ckpt"
    with pytest.raises(Killed):
        fit([MovingAverage(0.9), ResumePoint(str(path)), Kill()], steps=6)
    resumed, trainer = fit([MovingAverage(0.9), ResumePoint(str(path))], steps=6, ckpt_path=str(path))
    assert trainer.global_step == 6
    for left, right in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(left, right)
