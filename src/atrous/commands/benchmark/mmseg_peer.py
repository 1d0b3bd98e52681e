"""The same network here and in mmsegmentation, whose requirements fight with ours: it has a Python of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from atrous.checkpoints.foreign import translate
from atrous.commands.benchmark import mmseg_worker
from atrous.commands.benchmark.peer_process import PeerProcess
from atrous.commands.benchmark.peers import CLASSES
from atrous.composition.parts import build_segmentor
from atrous.errors import AtrousError
from atrous.models import Segmentor

NAME = "mmseg"


def start_mmseg(
    python: str | None, stack: ExitStack, *, model: str, backbone: str, output_stride: int, options: Mapping[str, Any]
) -> tuple[Segmentor, dict[str, PeerProcess]]:
    """Start its training steps, one process for each layout of memory, and build the same network here.

    Args:
        python: A Python that has mmsegmentation.
        stack: Ends the processes.
        model: ``deeplabv3`` or ``deeplabv3plus``.
        backbone: timm's name of a ResNet; mmsegmentation's own configurations have ``resnet50c`` and ``resnet101c``.
        output_stride: 8 or 16.
        options: ``batch``, ``side``, ``precision``, ``compile`` and ``threads`` of the steps.

    Returns:
        Our network with their weights, and their steps by layout.

    Raises:
        AtrousError: There is no such Python, it has no mmsegmentation, or mmsegmentation has no such network.
    """
    if python is None:
        raise AtrousError(
            "mmsegmentation needs an environment of its own: create one (pip install torch mmsegmentation mmcv-lite "
            "ftfy regex) and name its Python by train.mmseg_python=<path>"
        )
    if (
        model not in mmseg_worker.HEADS
        or backbone not in mmseg_worker.DEPTHS
        or output_stride not in mmseg_worker.FORMS
    ):
        raise AtrousError(f"mmseg has no {model} on {backbone} at this output stride")
    network = {"model": model, "backbone": backbone, "output_stride": output_stride, "num_classes": CLASSES}
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.pt"
        steps = {
            layout: stack.enter_context(
                PeerProcess(
                    python,
                    Path(mmseg_worker.__file__),
                    {**network, **options, "layout": layout, "weights": str(weights)},
                )
            )
            for layout in mmseg_worker.LAYOUTS
        }
        state = torch.load(weights, weights_only=True)
    _, *rates = mmseg_worker.RATES[output_stride]
    translation = translate("mmseg", state, output_stride=output_stride, rates=rates)
    ours = build_segmentor(translation.model, translation.num_classes)
    ours.load_state_dict(translation.state)
    return ours, steps
