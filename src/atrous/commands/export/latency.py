"""How long a network takes for an image, in PyTorch and elsewhere, in turns."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping

import torch

from atrous.commands.benchmark.turns import Timing, take_turns
from atrous.exports.file_format import Run
from atrous.geometry import Size
from atrous.models import Segmentor


def latencies(contestants: Mapping[str, Segmentor | Run], size: Size, *, rounds: int = 10) -> dict[str, Timing]:
    """Milliseconds for one image, from uint8 pixels to the result.

    Args:
        contestants: A network in evaluation mode, which runs as ``predict`` runs it, or what runs a file, by name.
        size: Height and width of the image.
        rounds: Turns of each, fewer if all of them have taken 20 seconds.
    """
    image = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    calls: dict[str, Callable[[], object]] = {}
    for name, contestant in contestants.items():
        if isinstance(contestant, Segmentor):
            calls[name] = functools.partial(copy.deepcopy(contestant).to(memory_format=torch.channels_last), image)
        else:
            calls[name] = functools.partial(contestant, image.numpy())
    with torch.inference_mode():
        return take_turns(calls, rounds=rounds, seconds=20)
