"""The best score that a decoder could reach: labels compressed, reconstructed and scored (1903.02120 table 1)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from atrous.data.data_module import SegmentationDataModule
from atrous.data.dataset import SegmentationDataset
from atrous.metrics import confusion_matrix, scores_from_confusion
from atrous.models.label_code import VOID, LabelCode, Mask, cut_windows
from atrous.terminal import StageProgress
from atrous.training.label_code_fitting import GridName, Masks, fit_label_code

PAPER: Mapping[int, tuple[float, float]] = {16: (98.40, 99.95), 32: (94.80, 99.90)}
"""Bilinear and DUpsampling on PASCAL VOC val by output stride, mIoU in % (table 1)."""

_METHODS = ("bilinear_samples", "bilinear_means", "dupsampling")


def run(
    console: Console,
    *,
    data: SegmentationDataModule,
    ratios: Sequence[int] = (16, 32),
    width: int = 64,
    grid: GridName = "points",
    limit: int | None = None,
    codes: Mapping[int, str] | None = None,
) -> dict[str, Any]:
    """Score reconstructed labels of the validation split and print the table.

    DUpsampling's matrices are fitted to the training split in closed form. Bilinear interpolation starts from the
    label at the place of each feature, or from the share of each class in the feature's window.

    Args:
        console: Where progress and table go.
        data: The data set at hand.
        ratios: Output strides, one row each.
        width: Numbers in the code of a window.
        grid: Grid of the backbone.
        limit: Fit to at most this many masks, evenly spaced.
        codes: Files with fitted codes by ratio, which are used instead of fitting.

    Returns:
        The table with mIoU and pixel accuracy as fractions, for JSON.
    """
    files = {int(ratio): path for ratio, path in (codes or {}).items()}
    truth = data.dataset("val")
    rows = []
    for ratio in (int(each) for each in ratios):
        began = time.perf_counter()
        if ratio in files:
            code = LabelCode.load(files[ratio])
        else:
            code = fit_label_code(data.dataset("train"), console, ratio=ratio, width=width, grid=grid, limit=limit)
        fitted = time.perf_counter()
        scores = score_reconstructions(truth, code, console)
        rows.append(
            {
                "ratio": ratio,
                "width": code.width,
                "fitted_to": code.origin,
                "explained": code.explained,
                **scores,
                "seconds_fit": fitted - began,
                "seconds_score": time.perf_counter() - fitted,
            }
        )
    console.print(_table(rows, f"{truth.label_space.name} {truth.split}, {len(truth)} masks"))
    return {"dataset": truth.label_space.name, "split": truth.split, "masks": len(truth), "grid": grid, "rows": rows}


def score_reconstructions(
    dataset: SegmentationDataset, code: LabelCode, console: Console
) -> dict[str, dict[str, float]]:
    """Compress and reconstruct every mask in three ways: mIoU and pixel accuracy of each."""
    masks = Masks(dataset)
    space = dataset.label_space
    counts = {method: torch.zeros(space.num_classes, space.num_classes, dtype=torch.int64) for method in _METHODS}
    with StageProgress(console, len(masks), prefix=f"ratio {code.ratio}: ") as progress:
        for mask in masks:
            size = (mask.shape[0], mask.shape[1])
            target = torch.from_numpy(mask.astype("int64"))
            for method, evidence in (
                ("bilinear_samples", bilinear_reconstruction(mask, code, means=False)),
                ("bilinear_means", bilinear_reconstruction(mask, code, means=True)),
                ("dupsampling", code.reconstruct(code.compress(mask), size)),
            ):
                counts[method] += confusion_matrix(
                    evidence.argmax(dim=0), target, space.num_classes, space.ignore_index
                )
            progress("scoring")
    scored = {method: scores_from_confusion(confusion) for method, confusion in counts.items()}
    return {method: {"miou": each.miou, "pixel_accuracy": each.pixel_accuracy} for method, each in scored.items()}


def bilinear_reconstruction(mask: Mask, code: LabelCode, *, means: bool) -> Tensor:
    """Bilinear interpolation of the labels at a network's features, C×H×W; void takes no part in it.

    Args:
        mask: Labels H×W.
        code: Says ratio, classes and grid.
        means: Start from the share of each class in every window rather than from the label at the feature's place; on
            a grid of cells, where features lie between pixels, that is the pixel below and right of it.
    """
    ratio, classes = code.ratio, code.num_classes
    windows = torch.from_numpy(cut_windows(mask, ratio=ratio, num_classes=classes, grid=code.grid)).long()
    if not means:
        # a window begins half a window before its feature
        windows = windows[..., ratio * (ratio // 2) + ratio // 2, None]
    one_hot = F.one_hot(windows.where(windows != VOID, classes), classes + 1)[..., :classes].float()
    shares = one_hot.sum(dim=2) / one_hot.sum(dim=(2, 3))[..., None].clamp(min=1)
    size = (code.grid.pixels(windows.shape[0], ratio), code.grid.pixels(windows.shape[1], ratio))
    evidence = code.grid.resize(shares.permute(2, 0, 1)[None], size)[0]
    return evidence[:, : mask.shape[0], : mask.shape[1]]


def _table(rows: Sequence[Mapping[str, Any]], title: str) -> Table:
    table = Table(
        "output stride",
        "width",
        "bilinear, samples",
        "bilinear, means",
        "DUpsampling",
        "paper: bilinear / DUpsampling",
        title=f"upper bound, mIoU %, {title}",
    )
    for row in rows:
        paper = PAPER.get(row["ratio"])
        table.add_row(
            str(row["ratio"]),
            str(row["width"]),
            *(f"{100 * row[method]['miou']:.2f}" for method in _METHODS),
            "-" if paper is None else f"{paper[0]:.2f} / {paper[1]:.2f} (VOC val)",
        )
    return table
