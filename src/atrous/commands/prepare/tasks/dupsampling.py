"""Fit P and W of DUpsampling to the training labels: ``python src/prepare.py task=dupsampling data=voc``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rich.console import Console

from atrous.data.data_module import SegmentationDataModule
from atrous.errors import AtrousError
from atrous.signatures import require_arguments
from atrous.terminal import say
from atrous.training.label_code_fitting import fit_label_code, label_code_file


def run(
    console: Console, *, data: SegmentationDataModule, folder: str, output: str | None = None, **options: Any
) -> dict[str, Any]:
    """Fit a code to the training labels and save it.

    Args:
        console: Where progress and result go.
        data: The data set at hand.
        folder: Where training keeps its codes.
        output: File to write; ``None`` for the one in ``folder`` that training with these options reads.
        options: Those of ``fit_label_code``.

    Returns:
        File, explained share of the energy, seconds, and the options.

    Raises:
        AtrousError: The file's name is empty, or an option is unknown or impossible.
    """
    if output == "":
        raise AtrousError("dupsampling.output is empty: give dupsampling.output=<file.pt>, or null")
    require_arguments(fit_label_code, options, of="dupsampling")
    began = time.perf_counter()
    dataset = data.dataset("train")
    file = label_code_file(folder, dataset, **options) if output is None else Path(output)
    code = fit_label_code(dataset, console, **options)
    code.save(file)
    seconds = time.perf_counter() - began
    say(
        console,
        f"{code.width} numbers explain {100 * code.explained:.2f} % of the energy of {code.origin}, windows of "
        f"{code.ratio}x{code.ratio} pixels and {code.num_classes} classes; {seconds:.0f} s; written to {file}",
    )
    return {
        "output": str(file),
        "origin": code.origin,
        "num_classes": code.num_classes,
        "explained": code.explained,
        "seconds": seconds,
        **options,
    }
