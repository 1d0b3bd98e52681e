"""A frozen batch norm stays as it is, whatever mode the network is put into."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from atrous.data import SegmentationDataModule
from atrous.training import SegmentationTask, freeze_batch_norm


def of_batch_norms(module: nn.Module) -> dict[str, Tensor]:
    """Statistics, scales and shifts of all batch norms."""
    norms = [(n, m) for n, m in module.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert len(norms) > 10
    return {f"{name}.{key}": value.clone() for name, norm in norms for key, value in norm.state_dict().items()}


@pytest.mark.parametrize("frozen", [True, False])
def test_training_moves_batch_norms_only_where_they_are_not_frozen(
    frozen: bool,
    task: Callable[..., SegmentationTask],
    data: Callable[..., SegmentationDataModule],
    trainer: Callable[..., Trainer],
) -> None:
    training = task(freeze_batch_norm=frozen)
    norms = of_batch_norms(training.segmentor)
    filters = {name: p.detach().clone() for name, p in training.segmentor.named_parameters() if p.ndim > 1}
    trainer(max_steps=3).fit(training, datamodule=data())  # with a validation in between
    after = of_batch_norms(training.segmentor)
    moved = {name for name in norms if not torch.equal(norms[name], after[name])}
    assert bool(moved) != frozen
    for name, parameter in training.segmentor.named_parameters():
        assert name not in filters or not torch.equal(filters[name], parameter)


def test_freezing_survives_a_change_of_mode(task: Callable[..., SegmentationTask]) -> None:
    training = task(freeze_batch_norm=True)
    for mode in (training.train, training.eval, training.train):
        mode()
        for module in training.segmentor.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                assert not module.training
                assert not any(parameter.requires_grad for parameter in module.parameters())
    assert training.segmentor.head.aspp.projection[-1].training  # dropout


def test_statistics_move_only_in_the_parts_that_learn(
    task: Callable[..., SegmentationTask],
    data: Callable[..., SegmentationDataModule],
    trainer: Callable[..., Trainer],
) -> None:
    training = task(train_only=["head.refinement", "backbone.network.layer1"])
    before = of_batch_norms(training.segmentor)
    trainer(max_steps=3).fit(training, datamodule=data())
    after = of_batch_norms(training.segmentor)
    statistics = {name for name in before if name.endswith(("running_mean", "running_var"))}
    moved = {name for name in statistics if not torch.equal(after[name], before[name])}
    assert moved == {name for name in statistics if name.startswith(("head.refinement", "backbone.network.layer1"))}


def test_one_image_trains_with_a_frozen_batch_norm(task: Callable[..., SegmentationTask]) -> None:
    training = task(freeze_batch_norm=True).train()
    training.segmentor(torch.zeros(1, 3, 33, 33)).sum().backward()


def test_a_plain_module_can_be_frozen() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.SyncBatchNorm(4)).train()
    freeze_batch_norm(network)
    assert [m.training for m in network] == [True, False, False]
    assert [name for name, p in network.named_parameters() if p.requires_grad] == ["0.weight", "0.bias"]
