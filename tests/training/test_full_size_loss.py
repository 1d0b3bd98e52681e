"""Losses against labels at full size are the same whether or not logits exist as a whole."""

from __future__ import annotations

import pytest
import torch

import atrous
from atrous.losses import OHEM, CrossEntropy, Loss
from atrous.training import full_size_loss
from atrous.training.full_size_loss import full_size_losses

OVERRIDES = [
    ("deeplabv3plus", []),
    ("deeplabv3plus", ["upsampler.align_corners=false"]),
    ("deeplabv3", ["model.auxiliary={_target_: atrous.models.heads.FCNHead, _partial_: true, feature: -2}"]),
    ("deeplabv2", []),
    ("deeplabv3plus", ["model.extend=false"]),
    ("deeplabv3", ["upsampler=sub_pixel"]),
]


@pytest.mark.parametrize("loss", [CrossEntropy(), OHEM(min_kept=50)])
@pytest.mark.parametrize(("model", "overrides"), OVERRIDES)
def test_losses_and_gradients(model: str, overrides: list[str], loss: Loss) -> None:
    torch.manual_seed(0)
    network = atrous.create(model, "resnet18", num_classes=5, overrides=overrides).eval()
    image = torch.randint(0, 256, (2, 3, 70, 97), dtype=torch.uint8)
    target = torch.randint(0, 5, (2, 70, 97))
    target[:, :20] = 255
    results = []
    for compute in (
        lambda: {name: loss(logits, target) for name, logits in network(image, outputs="all").items()},
        lambda: full_size_losses(network, loss, image, target),
    ):
        losses = compute()
        network.zero_grad(set_to_none=True)
        sum(losses.values()).backward()
        gradient = torch.cat([each.grad.flatten() for each in network.parameters() if each.grad is not None])
        results.append((losses, gradient))
    (whole, gradient), (mine, my_gradient) = results
    assert mine.keys() == whole.keys() == network.loss_weights.keys()
    for name, value in whole.items():
        torch.testing.assert_close(mine[name], value, rtol=1e-5, atol=1e-6)
    assert (my_gradient - gradient).norm() <= 1e-4 * gradient.norm()


def test_means_over_pixels_of_bilinear_logits_are_computed_by_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    by_rows = full_size_loss.loss_of_enlarged
    monkeypatch.setattr(full_size_loss, "loss_of_enlarged", lambda *a, **b: calls.append(1) or by_rows(*a, **b))
    image, target = torch.zeros(1, 3, 33, 33), torch.zeros(1, 33, 33, dtype=torch.long)
    cases = (("bilinear", CrossEntropy(), 1), ("bilinear", OHEM(), 0), ("sub_pixel", CrossEntropy(), 0))
    for upsampler, loss, count in cases:
        calls.clear()
        network = atrous.create("deeplabv3", "resnet18", num_classes=5, overrides=[f"upsampler={upsampler}"]).eval()
        full_size_losses(network, loss, image, target)
        assert len(calls) == count
