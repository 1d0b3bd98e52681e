"""Where the time and the memory of a training step go."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from torch.profiler import ProfilerActivity, profile

_KINDS = {
    "convolution backward": r"aten::\w*convolution\w*_backward|atrous::depthwise_weight_gradient",
    "convolution": r"aten::(mkldnn_convolution|_?conv\w*|thnn\w*|cudnn_conv\w*|mm|addmm|bmm)$|atrous::depthwise$",
    "batch norm": r"batch_norm|^_BatchNorm|^_Frozen",  # ours with the activation after it
    "activation": r"aten::(relu|clamp|hardtanh|threshold|hardswish|silu|sigmoid|mul)\w*$",
    "enlargement": r"upsample|interpolate",
    "loss": r"softmax|nll_loss",
    "copies": r"aten::(copy_|cat|constant_pad_nd|fill_|zero_|contiguous|clone|_to_copy|flip|index\w*)$",
    "optimizer": r"_foreach|Optimizer|_fused",
}
"""Kinds of operations by what their names match; the first one counts."""


def profile_step(step: Callable[[], object]) -> tuple[dict[str, float], int]:
    """Run a step once more and watch it.

    Args:
        step: What to watch; it has run before.

    Returns:
        Share of the processor's time of each kind of operation, and the most bytes that were allocated at once besides
        what was there before.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        step()
    shares: dict[str, float] = {}
    for event in watched.key_averages():
        kind = next((name for name, names in _KINDS.items() if re.search(names, event.key)), "other")
        shares[kind] = shares.get(kind, 0.0) + event.self_cpu_time_total
    total = sum(shares.values()) or 1.0
    return {kind: time / total for kind, time in shares.items()}, _peak(watched)


def _peak(watched: profile) -> int:
    recorder: Any = watched.profiler
    present = highest = 0
    for event in sorted(recorder.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            present += event.nbytes()
            highest = max(highest, present)
    return highest
