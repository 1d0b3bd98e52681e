"""Which precision trains a network faster on this machine's processor."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from atrous.losses import Loss
from atrous.models import Segmentor

FLOAT32 = "32-true"
BF16 = "bf16-mixed"
_CLEAR = 2.0  # a precision that is so many times slower on a small crop is not tried on the whole one
_SMALL = 33


def measure_precisions(segmentor: Segmentor, loss: Loss, crop_size: int, *, rounds: int = 2) -> dict[str, float]:
    """Time training steps of two random images in float32 and in bf16, in turn.

    Convolutions of a processor without instructions for bf16 run in plain loops, and even with them a dilated
    convolution may be slower than in float32, so this cannot be known without a trial. The trial begins with small
    crops, and ends there if the answer is clear.

    Args:
        segmentor: The network, laid out as it will be trained; its batch norms see random images, so it should not be
            used afterwards.
        loss: Called with logits and labels.
        crop_size: Height and width of the images.
        rounds: Steps of each precision, after one that does not count.

    Returns:
        Seconds of the faster step of each precision, for the largest crop that was tried.
    """
    segmentor.train()
    seconds: dict[str, float] = {}
    for size in dict.fromkeys((min(_SMALL, crop_size), crop_size)):
        step = _step(segmentor, loss, size)
        times: dict[str, list[float]] = {FLOAT32: [], BF16: []}
        for number in range(rounds + 1):
            for precision, measured in times.items():
                start = time.perf_counter()
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == BF16):
                    step()
                if number > 0:
                    measured.append(time.perf_counter() - start)
        seconds = {precision: min(measured) for precision, measured in times.items()}
        if max(seconds.values()) > _CLEAR * min(seconds.values()):
            break
    return seconds


def _step(segmentor: Segmentor, loss: Loss, size: int) -> Callable[[], None]:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (2, 3, size, size), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, segmentor.num_classes, (2, size, size), generator=generator)

    def step() -> None:
        segmentor.zero_grad(set_to_none=True)
        logits = segmentor(image.contiguous(memory_format=torch.channels_last))
        loss(logits, labels).backward()

    return step
