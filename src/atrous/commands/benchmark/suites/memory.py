"""Memory of scoring one image: what the network needs by itself, and what its probabilities add to that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from atrous.composition import build
from atrous.composition.create import create_segmentor
from atrous.data.label_space import LabelSpace
from atrous.errors import AtrousError, require_range
from atrous.memory import forget_peak_memory, free_memory, peak_memory
from atrous.terminal import say
from atrous.training import EvaluationTask

_IGNORED = 255


def run(
    console: Console,
    *,
    network: Sequence[str],
    inference: dict[str, Any],
    cases: Sequence[Sequence[int]],
    output_stride: int | None = None,
    threads: int = 2,
) -> dict[str, Any]:
    """Measure peaks of the process, and print a table.

    The ratio is what probabilities of the whole image would add, over what is added: at least B×C×H×W numbers for the
    logits and as many for the probabilities. Where memory is too small for those, their size is taken for the peak.

    Args:
        console: Where the table goes.
        network: Model and backbone, with random weights.
        inference: Node of the inference, as in ``src/evaluate.py``.
        cases: Height, width and classes of each image.
        output_stride: Output stride; ``None`` for the network's own.
        threads: Threads of the processor.

    Returns:
        Bytes of every peak above what the process had before.

    Raises:
        AtrousError: An option is impossible, or the system does not tell peaks.
    """
    require_range("memory.threads", threads, at_least=1)
    if len(network) != 2:
        raise AtrousError(f"memory.network={list(network)} must name model and backbone")
    for case in cases:
        if len(case) != 3 or min(case) < 1:
            raise AtrousError(f"memory.cases: {list(case)} must be height, width and number of classes")
    if not forget_peak_memory():
        raise AtrousError("suite=memory needs Linux, which tells the peak of a process")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    rows = []
    try:
        for height, width, classes in cases:
            rows.append(_measure(network, inference, height, width, classes, output_stride=output_stride))
            say(console, f"{rows[-1]['case']}: measured")
    finally:
        torch.set_num_threads(before)
    table = Table(
        "image", "network", "scored in bands", "added", "whole probabilities", "added", title="peak memory in MB"
    )
    for row in rows:
        network_alone, bands, whole = (row[name] / 1e6 for name in ("network", "bands", "whole"))
        computed = "" if row["whole_measured"] else " (computed)"
        added = (f"{each - network_alone:,.0f}" for each in (bands, whole))
        table.add_row(
            row["case"], f"{network_alone:,.0f}", f"{bands:,.0f}", next(added), f"{whole:,.0f}{computed}", next(added)
        )
    console.print(table)
    return {"suite": "memory", "rows": rows}


def _measure(
    network: Sequence[str],
    inference: dict[str, Any],
    height: int,
    width: int,
    classes: int,
    *,
    output_stride: int | None,
) -> dict[str, Any]:
    torch.manual_seed(0)
    model, backbone = network
    segmentor = create_segmentor(
        model, backbone, num_classes=classes, output_stride=output_stride, pretrained=False, overrides=()
    ).eval()
    names = tuple(str(label) for label in range(classes))
    space = LabelSpace("noise", names, ((0, 0, 0),) * classes, ignored_raw_ids=(_IGNORED,))
    task = EvaluationTask(
        segmentor=segmentor, inference=build(inference), label_space=space, splits={"test": "test"}, channels_last=True
    ).eval()
    image = torch.randint(0, 256, (1, 3, height, width), dtype=torch.uint8)
    mask = torch.randint(0, classes, (1, height, width)).to(torch.uint8)
    channels_last = image.contiguous(memory_format=torch.channels_last)
    calls: dict[str, Callable[[], object]] = {
        "network": lambda: segmentor.logit_map(channels_last),
        "bands": lambda: task.test_step({"image": image, "mask": mask}, 0),
        "whole": lambda: segmentor(channels_last).softmax(dim=1).argmax(dim=1),
    }
    numbers = 2 * 4 * classes * height * width  # bytes of logits and probabilities
    with torch.inference_mode():
        segmentor.logit_map(channels_last[..., : min(height, 65), : min(width, 65)])  # code and tables that stay
        peaks = {name: _peak(call) for name, call in calls.items() if name != "whole"}
        fits = free_memory() > peaks["network"] + 2 * numbers
        peaks["whole"] = _peak(calls["whole"]) if fits else max(peaks["network"], numbers)
    return {
        "case": f"{height}x{width}x{classes}",
        **peaks,
        "whole_measured": fits,
        "ratio": (peaks["whole"] - peaks["network"]) / max(1, peaks["bands"] - peaks["network"]),
    }


def _peak(call: Callable[[], object]) -> int:
    """Most bytes of the process during a call, above those before it."""
    forget_peak_memory()
    before = peak_memory()
    call()
    return peak_memory() - before
