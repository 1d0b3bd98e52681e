"""Depthwise atrous convolutions learn in bf16 on the CPU, where PyTorch's gradient with channels last is garbage."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from atrous.data import SegmentationDataModule
from atrous.errors import AtrousError
from atrous.training import SegmentationTask

Task = Callable[..., SegmentationTask]


def atrous_layer(training: SegmentationTask) -> nn.Conv2d:
    """The depthwise convolution of an atrous branch."""
    layer = training.segmentor.head.aspp.atrous[0][0]
    assert isinstance(layer, nn.Conv2d)
    assert layer.groups == layer.in_channels > 1
    assert layer.dilation == (6, 6)
    return layer


def maps(layer: nn.Conv2d) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, layer.in_channels, 33, 33, generator=generator)
    return features.contiguous(memory_format=torch.channels_last).requires_grad_()


def test_gradients_in_bf16_are_those_of_float64(task: Task) -> None:
    layer = atrous_layer(task(channels_last=True))
    features = maps(layer)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = layer(features)
    slope = torch.randn_like(result)
    gradients = torch.autograd.grad(result, (features, layer.weight), slope)
    exact = torch.autograd.grad(layer.double()(features.double()), (features, layer.weight), slope.double())
    for mine, wanted in zip(gradients, exact, strict=True):
        assert (mine - wanted).norm() < 0.01 * wanted.norm()


@pytest.mark.parametrize(
    ("precision", "learning", "channels_first"),
    [(torch.bfloat16, True, True), (torch.bfloat16, False, False), (torch.float32, True, False)],
)
def test_only_such_layers_leave_channels_last(
    task: Task, precision: torch.dtype, learning: bool, channels_first: bool
) -> None:
    training = task(channels_last=True)
    assert list(training.state_dict()) == list(task().state_dict())
    layer = atrous_layer(training)
    features = maps(layer)
    seen: list[Tensor] = []
    layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == torch.bfloat16):
        with torch.set_grad_enabled(learning):
            results = [layer(features)]
        layer.dilation = layer.padding = (1, 1)
        results.append(layer(features))
    assert [each.is_contiguous() for each in seen] == [channels_first, False]
    assert all(each.is_contiguous(memory_format=torch.channels_last) for each in results)


def test_compiled_they_are_refused(
    task: Task, data: Callable[..., SegmentationDataModule], trainer: Callable[..., Trainer]
) -> None:
    """The compiler chooses the layout by itself, and chooses this one."""
    with pytest.raises(AtrousError, match=r"set task\.compile=false or trainer\.precision=32-true"):
        trainer(precision="bf16-mixed").fit(task(compile=True), datamodule=data())
