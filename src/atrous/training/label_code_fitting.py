"""Fitting the code of label windows that DUpsampling decodes, before any network is trained (1903.02120 §3)."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from rich.console import Console

from atrous.data.dataset import SegmentationDataset
from atrous.errors import AtrousError, require_range
from atrous.geometry import Grid
from atrous.models.label_code import LabelCode, Mask, fit_by_gradient, fit_closed_form
from atrous.models.upsamplers import DUpsampling
from atrous.terminal import StageProgress, say

Method = Literal["closed_form", "gradient", "nonlinear"]
GridName = Literal["points", "cells"]


class Masks:
    """The masks of a data set, read again in every pass.

    Args:
        dataset: Where they are from; images are not looked at.
        limit: At most this many, evenly spaced; ``None`` for all.

    Raises:
        AtrousError: The limit is not positive.
    """

    def __init__(self, dataset: SegmentationDataset, limit: int | None = None) -> None:
        if limit is not None and limit < 1:
            raise AtrousError(f"limit={limit} must be a positive number of masks, or null for all")
        self.dataset = dataset
        chosen = np.linspace(0, len(dataset) - 1, min(limit or len(dataset), len(dataset)))
        self.indices: list[int] = chosen.round().astype(int).tolist()

    def __len__(self) -> int:
        """Number of masks in a pass."""
        return len(self.indices)

    def __iter__(self) -> Iterator[Mask]:
        """Read the masks."""
        return (self.dataset.mask(index) for index in self.indices)


def fit_label_code(
    dataset: SegmentationDataset,
    console: Console,
    *,
    ratio: int = 16,
    width: int = 64,
    grid: GridName = "points",
    method: Method = "closed_form",
    hidden: int | None = None,
    passes: int = 16,
    tolerance: float = 1e-5,
    epochs: int = 5,
    learning_rate: float = 3e-3,
    limit: int | None = None,
    seed: int = 0,
) -> LabelCode:
    """Fit a code to the labels of a data set, with a progress bar.

    Args:
        dataset: Training data; images are not looked at.
        console: Where the bar is shown.
        ratio: Side of a window in pixels: the stride of the head's scores.
        width: Numbers in the code of a window.
        grid: Grid of the backbone.
        method: ``closed_form``, ``gradient`` (from random weights), or ``nonlinear`` (a hidden layer, from the closed
            form on).
        hidden: Width of the hidden layer; ``None`` for four times the width. For ``nonlinear`` only.
        passes: Maximum number of passes of the closed form.
        tolerance: Change of the explained energy at which the closed form stops.
        epochs: Passes of the gradient methods.
        learning_rate: Learning rate of the gradient methods, at the start.
        limit: Use at most this many masks, evenly spaced.
        seed: Seed of random starts and of the order.

    Raises:
        AtrousError: Values are impossible or incompatible.
    """
    if method not in get_args(Method):
        raise AtrousError(f"dupsampling.method={method!r} is unknown; choose one of {', '.join(get_args(Method))}")
    if hidden is not None and method != "nonlinear":
        raise AtrousError(f"dupsampling.hidden={hidden} needs dupsampling.method=nonlinear, not {method}")
    if grid not in get_args(GridName):
        raise AtrousError(f"dupsampling.grid={grid!r} is unknown; choose points or cells")
    require_range("dupsampling.ratio", ratio, at_least=1)
    require_range("dupsampling.width", width, at_least=1)
    require_range("dupsampling.hidden", hidden, at_least=1)
    require_range("dupsampling.passes", passes, at_least=1)
    require_range("dupsampling.tolerance", tolerance, at_least=0)
    require_range("dupsampling.epochs", epochs, at_least=1)
    require_range("dupsampling.learning_rate", learning_rate, above=0)
    require_range("dupsampling.seed", seed, at_least=0)
    masks = Masks(dataset, limit)
    space = dataset.label_space
    common: dict[str, Any] = {
        "num_classes": space.num_classes,
        "ratio": ratio,
        "width": width,
        "grid": Grid(grid),
        "seed": seed,
        "origin": f"{space.name} {dataset.split} ({len(masks)} masks, {method})",
    }
    with StageProgress(console, len(masks), prefix=f"fitting windows of {ratio}x{ratio}: ") as progress:
        start = None
        if method != "gradient":
            start = fit_closed_form(masks, passes=passes, tolerance=tolerance, progress=progress, **common)
        if start is not None and method == "closed_form":
            return start
        if method == "nonlinear" and hidden is None:
            hidden = 4 * width
        return fit_by_gradient(
            masks,
            hidden=hidden,
            epochs=epochs,
            learning_rate=learning_rate,
            start=start,
            progress=progress,
            **common,
        )


def label_code_file(folder: str | Path, dataset: SegmentationDataset, **options: Any) -> Path:
    """Where a code is kept: the name depends on the labels and on every option.

    Args:
        folder: Folder of the codes.
        dataset: Training data.
        options: Those of ``fit_label_code``.
    """
    fit = inspect.signature(fit_label_code).bind(dataset, None, **options)
    fit.apply_defaults()
    what = {name: value for name, value in fit.arguments.items() if name not in ("dataset", "console")}
    digest = hashlib.sha256(f"{LabelCode.FORMAT} {dataset.fingerprint()} {what}".encode()).hexdigest()[:16]
    name = f"{dataset.label_space.name}_{dataset.split}_{what['ratio']}_{what['width']}_{digest}.pt"
    return Path(folder) / name


def fit_upsampler(
    upsampler: DUpsampling, dataset: SegmentationDataset, console: Console, *, folder: str | Path
) -> None:
    """Give an upsampler that was built with ``upsampler.weights=fit`` its weights.

    Args:
        upsampler: Changed in place.
        dataset: Training data.
        console: Where progress and the file's path are printed.
        folder: Where the code is kept for later runs, and looked for first. A file that cannot be read is replaced.
    """
    options: dict[str, Any] = {
        "ratio": upsampler.ratio,
        "width": upsampler.score_channels,
        "grid": upsampler.grid.value,
        "method": "closed_form" if upsampler.hidden is None else "nonlinear",
        "hidden": upsampler.hidden,
    }
    file = label_code_file(folder, dataset, **options)
    code = _kept(file)
    if code is not None:
        say(console, f"upsampler: {code.origin}, read from {file}")
    else:
        say(console, f"upsampler: fitting to the {len(dataset)} masks of {dataset.label_space.name} {dataset.split}")
        code = fit_label_code(dataset, console, **options)
        try:
            code.save(file)
            say(console, f"upsampler: kept in {file} for later runs")
        except OSError as error:
            say(console, f"upsampler: the next run fits again, as {file} cannot be written ({error.strerror})")
    upsampler.load_code(code)


def _kept(file: Path) -> LabelCode | None:
    try:
        return LabelCode.load(file)
    except AtrousError:  # missing or damaged
        return None
