"""Optimizers in one kernel give the weights that PyTorch's loops give, and stand aside where they may not be used."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.optim import Optimizer

from atrous.training.fused_optimizer import build_optimizer

OPTIMIZERS = {
    "sgd": partial(torch.optim.SGD, lr=0.1, momentum=0.9),
    "nesterov": partial(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True),
    "adam": partial(torch.optim.Adam, lr=0.01, betas=(0.9, 0.999)),
    "adamw": partial(torch.optim.AdamW, lr=0.01, betas=(0.9, 0.999)),
}


def trained(build: Callable[[list[dict[str, Any]]], Optimizer]) -> list[Tensor]:
    """Weights of a small network with channels last after a few steps, with two groups of unequal settings."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)).to(memory_format=torch.channels_last)
    groups = [
        {"params": list(network[0].parameters()), "weight_decay": 0.02, "lr": 0.05},
        {"params": list(network[2].parameters()), "weight_decay": 0.0},
    ]
    optimizer = build(groups)
    for _ in range(6):
        network(torch.randn(2, 3, 9, 9)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return [parameter.detach() for parameter in network.parameters()]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_same_weights_as_a_loop_over_tensors(name: str) -> None:
    built: list[Optimizer] = []

    def build(groups: list[dict[str, Any]]) -> Optimizer:
        built.append(build_optimizer(OPTIMIZERS[name], groups))
        return built[-1]

    fused = trained(build)
    assert all(group["fused"] for group in built[0].param_groups)
    for ours, theirs in zip(fused, trained(partial(OPTIMIZERS[name], foreach=False)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_choice_of_the_users_is_kept() -> None:
    for choice in ({"foreach": True}, {"fused": False}):
        groups = [{"params": [nn.Parameter(torch.ones(2))]}]
        group = build_optimizer(partial(torch.optim.SGD, lr=1.0, **choice), groups).param_groups[0]
        assert {name: group[name] for name in choice} == choice
        assert not group["fused"]


def test_an_optimizer_without_such_a_form_is_built_as_it_is() -> None:
    groups = [{"params": [nn.Parameter(torch.ones(2))]}]
    assert isinstance(build_optimizer(partial(torch.optim.LBFGS, lr=1.0), groups), torch.optim.LBFGS)


def test_scaled_gradients_and_integers_are_left_to_loops() -> None:
    sgd = OPTIMIZERS["sgd"]
    weights = [{"params": [nn.Parameter(torch.ones(2))]}]
    assert build_optimizer(sgd, weights, scales_gradients=True).param_groups[0]["fused"] is None
    counts = [{"params": [nn.Parameter(torch.ones(2, dtype=torch.int64), requires_grad=False)]}]
    assert build_optimizer(sgd, counts).param_groups[0]["fused"] is None


class Norms(Callback):
    """Norm of all gradients at each step, as the optimizer sees them."""

    def __init__(self) -> None:
        self.seen: list[float] = []
        self.fused: list[Any] = []

    def on_before_zero_grad(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        gradients = [weight.grad for weight in pl_module.parameters() if weight.grad is not None]
        if gradients:
            self.seen.append(float(torch.stack([gradient.float().norm() for gradient in gradients]).norm()))
            self.fused.append(optimizer.param_groups[0]["fused"])


def test_gradients_are_clipped_before_a_fused_step_in_bf16(task: Any, data: Any, trainer: Any) -> None:
    norms = Norms()
    settings = {"max_steps": 3, "precision": "bf16-mixed", "gradient_clip_val": 0.01, "limit_val_batches": 0}
    trainer(callbacks=[norms], **settings).fit(task(), datamodule=data())
    assert norms.fused
    assert all(norms.fused)
    assert max(norms.seen) <= 0.0101
