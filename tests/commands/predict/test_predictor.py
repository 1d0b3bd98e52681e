from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from atrous.commands.predict.predictor import Predictor, choose_device
from atrous.errors import AtrousError
from atrous.inference import Inference
from atrous.inference.inference import Band


class Channels(nn.Module):
    """Logits are the color channels, computed by a 1x1 convolution, which autocast would run in bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 3, 1, bias=False)
        with torch.no_grad():
            self.convolution.weight.copy_(torch.eye(3).view(3, 3, 1, 1))
        self.seen: torch.dtype | None = None

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.convolution(image.float())
        self.seen = logits.dtype
        return logits


class Answer(Inference):
    """Gives what a function says about the images, in two bands."""

    def __init__(self, function: Callable[[nn.Module, Tensor], Tensor]) -> None:
        self.function = function

    def bands(self, segmentor: Any, image: Tensor) -> Iterator[Band]:
        probabilities = self.function(segmentor, image).float().softmax(dim=1)
        yield slice(0, 3), probabilities[:, :, :3]
        yield slice(3, probabilities.shape[2]), probabilities[:, :, 3:]


@pytest.mark.parametrize(("precision", "dtype"), [("32", torch.float32), ("bf16", torch.bfloat16)])
def test_labels_are_the_most_probable_classes(precision: str, dtype: torch.dtype) -> None:
    images = np.random.default_rng(0).permuted(np.tile(np.array([0, 90, 200], np.uint8), (2, 4, 5, 1)), axis=-1)
    network, answer = Channels(), Answer(lambda segmentor, image: segmentor(image))
    predictor = Predictor(network, answer, device=torch.device("cpu"), precision=precision)
    labels = predictor(images)
    assert labels.dtype == np.uint8
    assert (labels == images.argmax(axis=-1)).all()
    assert network.seen == dtype


def test_out_of_memory_is_a_memory_error() -> None:
    def starve(segmentor: nn.Module, image: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    def fail(segmentor: nn.Module, image: Tensor) -> Tensor:
        raise RuntimeError("something else")

    images = np.zeros((1, 2, 2, 3), dtype=np.uint8)
    cpu = torch.device("cpu")
    with pytest.raises(MemoryError, match="needs more memory than cpu has"):
        Predictor(Channels(), Answer(starve), device=cpu)(images)

    def starve_on_apple(segmentor: nn.Module, image: Tensor) -> Tensor:
        raise RuntimeError("MPS backend out of memory (MPS allocated: 8.73 GB)")

    with pytest.raises(MemoryError, match="needs more memory than cpu has"):
        Predictor(Channels(), Answer(starve_on_apple), device=cpu)(images)
    with pytest.raises(RuntimeError, match="something else"):
        Predictor(Channels(), Answer(fail), device=cpu)(images)


def test_unknown_precision_and_device_list_the_valid_ones() -> None:
    with pytest.raises(AtrousError, match="precision=16 is unknown: choose one of 32, bf16"):
        Predictor(Channels(), Answer(nn.Module.__call__), device=torch.device("cpu"), precision="16")
    with pytest.raises(AtrousError, match="device=tpu is not on this machine: choose one of auto, cpu"):
        choose_device("tpu")


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == torch.device("cpu")
    with pytest.raises(AtrousError, match="device=cuda is not on this machine"):
        choose_device("cuda")
    with pytest.raises(AtrousError, match=r"device=mps is not on this machine: choose one of auto, cpu$"):
        choose_device("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto") == choose_device("mps") == torch.device("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto") == torch.device("cuda")
    assert choose_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(AtrousError, match="choose one of auto, cpu, cuda, cuda:0, cuda:1"):
        choose_device("cuda:2")
