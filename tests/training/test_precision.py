"""The precision in which a step is faster, tried on the machine."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from atrous.losses import CrossEntropy
from atrous.models import Segmentor
from atrous.training.precision import measure_precisions


class Slow(CrossEntropy):
    """A loss that takes its time in one precision."""

    def __init__(self, in_bf16: bool) -> None:
        super().__init__()
        self.in_bf16 = in_bf16
        self.sides: list[int] = []

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        self.sides.append(logits.shape[-1])
        if torch.is_autocast_enabled("cpu") == self.in_bf16:
            time.sleep(0.3)
        return super().forward(logits, target)


@pytest.mark.parametrize("in_bf16", [True, False])
def test_the_slow_one_is_found_on_a_small_crop(segmentor: Callable[..., Segmentor], in_bf16: bool) -> None:
    loss = Slow(in_bf16)
    seconds = measure_precisions(segmentor(), loss, 97)
    assert max(seconds, key=lambda precision: seconds[precision]) == ("bf16-mixed" if in_bf16 else "32-true")
    assert seconds.keys() == {"32-true", "bf16-mixed"}
    assert max(seconds.values()) > 0.3
    assert set(loss.sides) == {33}


def test_whole_crops_where_it_is_not_clear(
    segmentor: Callable[..., Segmentor], monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter(range(100))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(ticks)))  # every step takes one second
    loss = Slow(True)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    assert measure_precisions(segmentor(), loss, 97) == {"32-true": 1, "bf16-mixed": 1}
    assert loss.sides == [33] * 6 + [97] * 6


def test_both_precisions_are_tried(segmentor: Callable[..., Segmentor]) -> None:
    network = segmentor()
    seen: list[torch.dtype] = []
    layer = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    layer.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    measure_precisions(network, CrossEntropy(), 33, rounds=1)
    assert seen == [torch.float32, torch.bfloat16] * 2
    assert all(parameter.grad is not None for parameter in network.parameters())
