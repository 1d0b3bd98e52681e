"""The loss of enlarged scores, computed by rows, is the loss of the enlarged scores."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from atrous.errors import AtrousError
from atrous.geometry import Grid
from atrous.losses import CrossEntropy, Focal, MeanOverPixels, enlarged, loss_of_enlarged

LOSSES = {
    "plain": CrossEntropy(),
    "weighted": CrossEntropy(class_weights=[0.5, 1.0, 2.0, 0.0, 1.5], label_smoothing=0.1),
    "focal": Focal(gamma=2.0),
}


def given(precision: torch.dtype = torch.float32, size: tuple[int, int] = (61, 75)) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    scores = 3 * torch.randn(2, 5, 5, 7)
    target = torch.randint(0, 5, (2, *size))
    target[torch.rand(target.shape) < 0.2] = 255
    return scores.to(precision).contiguous(memory_format=torch.channels_last).requires_grad_(), target


def both(loss: MeanOverPixels, scores: Tensor, target: Tensor, grid: Grid, size: tuple[int, int]) -> list[list[Tensor]]:
    logits = grid.resize(scores.float() if scores.dtype == torch.bfloat16 else scores, size)
    whole = loss(logits[..., : target.shape[1], : target.shape[2]], target)
    by_rows = loss_of_enlarged(loss, scores, target, grid=grid, size=size)
    return [[value.detach(), torch.autograd.grad(3 * value, scores)[0]] for value in (whole, by_rows)]


@pytest.mark.parametrize("rows", [1, 3, 1000])
@pytest.mark.parametrize("grid", list(Grid))
@pytest.mark.parametrize("name", LOSSES)
def test_equal_to_the_loss_of_whole_logits(name: str, grid: Grid, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    size = (65, 97) if grid is Grid.POINTS else (80, 112)
    monkeypatch.setitem(enlarged._PART, "cpu", rows * 2 * 5 * size[1] * 4)
    scores, target = given()
    (value, gradient), (mine, my_gradient) = both(LOSSES[name], scores, target, grid, size)
    torch.testing.assert_close(mine, value, rtol=1e-5, atol=0)
    assert (my_gradient - gradient).norm() <= 1e-5 * gradient.norm()
    assert my_gradient.abs().max() > 0


@pytest.mark.parametrize(("height", "extent"), [(1, 1), (1, 17), (2, 2), (7, 7), (3, 2)])
@pytest.mark.parametrize("grid", list(Grid))
def test_few_rows(grid: Grid, height: int, extent: int) -> None:
    scores = torch.randn(1, 5, height, 4, dtype=torch.float64, requires_grad=True)
    target = torch.randint(0, 5, (1, extent, 9))
    (value, gradient), (mine, my_gradient) = both(LOSSES["plain"], scores, target, grid, (extent, 9))
    torch.testing.assert_close(mine, value)
    torch.testing.assert_close(my_gradient, gradient)


def test_bf16_scores_get_bf16_gradients_of_float32_logits() -> None:
    scores, target = given(torch.bfloat16)
    (value, gradient), (mine, my_gradient) = both(LOSSES["plain"], scores, target, Grid.POINTS, (65, 97))
    assert my_gradient.dtype == torch.bfloat16
    assert mine.dtype == torch.float32
    torch.testing.assert_close(mine, value, rtol=1e-5, atol=0)
    torch.testing.assert_close(my_gradient, gradient, rtol=1e-2, atol=1e-6)


def test_nothing_to_learn_from() -> None:
    scores, target = given()
    value = loss_of_enlarged(LOSSES["plain"], scores, torch.full_like(target, 255), grid=Grid.POINTS, size=(65, 97))
    assert value == 0
    assert not torch.autograd.grad(value, scores)[0].any()
    with torch.no_grad():
        still = loss_of_enlarged(LOSSES["plain"], scores, target, grid=Grid.POINTS, size=(65, 97))
    assert still > 0
    assert not still.requires_grad


def test_there_are_no_second_derivatives() -> None:
    scores, target = given()
    value = loss_of_enlarged(LOSSES["plain"], scores, target, grid=Grid.POINTS, size=(65, 97))
    (slope,) = torch.autograd.grad(value, scores, create_graph=True)
    with pytest.raises(AtrousError, match="can be differentiated once"):
        slope.sum().backward()


def test_the_logits_never_exist_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted by the profiler: less than a quarter of the logits and their gradient."""
    monkeypatch.setitem(enlarged._PART, "cpu", 2**20)
    scores = torch.randn(2, 21, 17, 17, requires_grad=True)
    target = torch.randint(0, 21, (2, 257, 257))
    peaks = []
    for compute in (
        lambda: CrossEntropy()(Grid.POINTS.resize(scores, (257, 257)), target).backward(),
        lambda: loss_of_enlarged(CrossEntropy(), scores, target, grid=Grid.POINTS, size=(257, 257)).backward(),
    ):
        with torch.profiler.profile(profile_memory=True) as watched:
            compute()
        present = highest = 0
        events = watched.profiler.kineto_results.events()
        for event in sorted(events, key=lambda event: event.start_ns()):
            if event.name() == "[memory]":
                present += event.nbytes()
                highest = max(highest, present)
        peaks.append(highest)
    whole = 2 * 21 * 257 * 257 * 4
    assert peaks[0] > 2 * whole
    assert peaks[1] < whole / 2
