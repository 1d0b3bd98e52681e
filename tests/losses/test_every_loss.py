"""What holds of every loss: ignored pixels, precision, gradients."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from atrous.losses import Loss

Example = Callable[..., tuple[Tensor, Tensor]]


def gradient(loss: Loss, logits: Tensor, target: Tensor) -> Tensor:
    (slope,) = torch.autograd.grad(loss(logits, target), logits)
    return slope


def test_slope_by_finite_differences(loss: Loss, example: Example) -> None:
    logits, target = example()
    torch.autograd.gradcheck(lambda scores: loss(scores, target), logits, eps=1e-7, atol=1e-6)


def test_ignored_pixels_get_exactly_no_gradient(loss: Loss, example: Example) -> None:
    logits, target = example()
    slope = gradient(loss, logits, target)
    assert slope.isfinite().all()
    assert torch.count_nonzero(slope) > 0
    assert torch.count_nonzero(slope.movedim(1, -1)[target == 255]) == 0


def test_number_of_ignored_pixels_does_not_matter(loss: Loss, example: Example) -> None:
    """Nor what the network says there; a mean over all pixels or a part of all pixels would change."""
    logits, target = example()
    noise = 20 * torch.randn(2, 4, 9, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    more_logits = torch.cat([logits.detach(), noise], dim=2).requires_grad_()
    more_target = torch.cat([target, torch.full((2, 9, 7), 255, dtype=torch.uint8)], dim=1)
    torch.testing.assert_close(loss(logits, target), loss(more_logits, more_target))
    slope = gradient(loss, logits, target)
    torch.testing.assert_close(slope, gradient(loss, more_logits, more_target)[:, :, :5])


def test_an_image_of_ignored_pixels_does_not_matter(loss: Loss, example: Example) -> None:
    logits, target = example()
    more_logits = torch.cat([logits, torch.randn_like(logits)])
    more_target = torch.cat([target, torch.full_like(target, 255)])
    torch.testing.assert_close(loss(logits, target), loss(more_logits, more_target))


def test_nothing_but_ignored_pixels_gives_zero(loss: Loss, example: Example) -> None:
    logits, target = example(ignored=1.1)
    assert loss(logits, target).item() == 0
    slope = gradient(loss, logits, target)
    assert slope.isfinite().all()
    assert torch.count_nonzero(slope) == 0


def test_certain_predictions_have_finite_slopes(loss: Loss, example: Example) -> None:
    """Probabilities of exactly 0 and 1 in float32, right and wrong ones."""
    logits, target = example()
    certain = (1000 * logits.detach()).float().requires_grad_()
    assert loss(certain, target).isfinite()
    assert gradient(loss, certain, target).isfinite().all()


def test_half_precision_counts_in_float32(loss: Loss, example: Example) -> None:
    logits, target = example()
    half = logits.detach().bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = loss(half, target)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, loss(half.double(), target).float(), rtol=1e-5, atol=1e-6)


def test_labels_of_any_integer_type(loss: Loss, example: Example) -> None:
    logits, target = example()
    for dtype in (torch.int16, torch.int32, torch.int64):
        torch.testing.assert_close(loss(logits, target.to(dtype)), loss(logits, target))


def test_a_loss_saves_nothing_with_the_network(loss: Loss) -> None:
    assert loss.state_dict() == {}
