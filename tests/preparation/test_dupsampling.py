"""Fitting to a data set, the upper bound, and the choice of a task."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from rich.console import Console

import prepare as entry_point
from atrous.composition import build_segmentor
from atrous.data import Shapes
from atrous.data.data_module import SegmentationDataModule
from atrous.errors import AtrousError
from atrous.preparation import TASKS, run_task
from atrous.preparation.dupsampling import Masks, fit_label_code, fit_upsampler
from atrous.preparation.upper_bound import bilinear_reconstruction, score_reconstructions
from atrous.upsamplers.dupsampling import DUpsampling
from atrous.upsamplers.label_code import LabelCode, fit_closed_form

SMALL = ("data.dataset.size=64", "data.dataset.lengths={train: 6, val: 3}")


def silent() -> Console:
    return Console(file=io.StringIO(), width=200)


def shapes(split: str = "train", count: int = 6) -> Shapes:
    return Shapes(split, size=64, lengths={split: count})


def test_masks_are_read_anew_and_evenly_spaced() -> None:
    masks = Masks(shapes(), limit=3)
    assert masks.indices == [0, 2, 5]
    assert len(masks) == 3
    for ours, index in zip(masks, masks.indices, strict=True):
        np.testing.assert_array_equal(ours, shapes()[index].mask)
    assert len(list(masks)) == len(list(masks)) == 3
    assert Masks(shapes()).indices == list(range(6))
    with pytest.raises(AtrousError, match="limit=0 must be a positive number"):
        Masks(shapes(), limit=0)


@pytest.mark.parametrize("method", ["closed_form", "gradient", "nonlinear"])
def test_every_method_fits_to_a_data_set(method: Any) -> None:
    code = fit_label_code(shapes(), silent(), ratio=8, width=4, method=method, epochs=1)
    assert (code.ratio, code.num_classes, code.width) == (8, 8, 4)
    assert code.hidden == (16 if method == "nonlinear" else None)
    assert code.origin == f"shapes train (6 masks, {method})"
    assert code.explained < 1
    if method != "gradient":
        assert code.explained > 0.5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"method": "pca"}, "dupsampling.method='pca' is unknown; choose one of closed_form, gradient, nonlinear"),
        ({"hidden": 9}, "dupsampling.hidden=9 needs dupsampling.method=nonlinear"),
        ({"method": "nonlinear", "hidden": 9, "width": 8}, "hidden=9 must be at least twice dupsampling.width=8"),
        ({"grid": "dots"}, "dupsampling.grid='dots' is unknown"),
    ],
)
def test_mistakes_are_one_sentence(options: dict[str, Any], said: str) -> None:
    with pytest.raises(AtrousError, match=said):
        fit_label_code(shapes(), silent(), ratio=8, **options)


@pytest.mark.parametrize("hidden", [None, 8])
def test_an_upsampler_is_fitted_in_place(hidden: int | None) -> None:
    upsampler = DUpsampling(grid="points", num_classes=8, ratio=8, width=4, hidden=hidden, weights="fit")
    fit_upsampler(upsampler, shapes(), silent())
    assert not upsampler.unfitted
    if hidden is None:
        wanted = fit_label_code(shapes(), silent(), ratio=8, width=4).decoder[0]
        torch.testing.assert_close(upsampler.decoder[0].weight[..., 0, 0], wanted)


def test_the_entry_point_writes_weights_that_a_network_takes(
    composed: Callable[..., DictConfig], tmp_path: Path
) -> None:
    folder = tmp_path / "own"
    options = [*SMALL, f"paths.data={folder}"]
    entry_point.prepare(composed("prepare", *options, "task=dupsampling", "dupsampling.width=8"))
    file = folder / "dupsampling" / "shapes_16_8.pt"
    figures = json.loads((tmp_path / "run" / "dupsampling.json").read_text())
    assert figures["output"] == str(file)
    code = LabelCode.load(file)
    assert figures["explained"] == code.explained
    network = ["backbone.name=test_resnet", "backbone=timm", "model=dupsampling", "upsampler.width=8"]
    config = composed("train", *options, *network, "upsampler.ratio=16", "model.head.low_level=[]")
    segmentor = build_segmentor(config.model, 8)
    assert isinstance(segmentor.upsampler, DUpsampling)
    torch.testing.assert_close(segmentor.upsampler.decoder[0].weight[..., 0, 0], code.decoder[0])
    logits = segmentor.eval()(torch.zeros(1, 3, 40, 56, dtype=torch.uint8))
    assert logits.shape == (1, 8, 40, 56)


def test_training_without_weights_names_the_command(composed: Callable[..., DictConfig], tmp_path: Path) -> None:
    config = composed("train", f"paths.data={tmp_path / 'none'}", "model=dupsampling")
    command = "python src/prepare.py task=dupsampling data=shapes dupsampling.ratio=16 dupsampling.width=64"
    with pytest.raises(AtrousError, match=f"run {command} .*, or set upsampler.weights=fit"):
        build_segmentor(config.model, 8)


def test_upper_bound_of_a_data_set(composed: Callable[..., DictConfig], tmp_path: Path) -> None:
    options = ["task=upper_bound", "upper_bound.width=32", "upper_bound.ratios=[8,16]"]
    entry_point.prepare(composed("prepare", *SMALL, *options))
    result = json.loads((tmp_path / "run" / "upper_bound.json").read_text())
    assert result["masks"] == 3
    fine, coarse = result["rows"]
    assert (fine["ratio"], coarse["ratio"]) == (8, 16)
    for method in ("bilinear_samples", "bilinear_means", "dupsampling"):
        assert 1 > fine[method]["miou"] > coarse[method]["miou"] > 0


def test_a_code_that_loses_nothing_has_the_score_one() -> None:
    dataset = shapes("val", 3)
    code = fit_closed_form(Masks(dataset), num_classes=8, ratio=2, width=32)
    scores = score_reconstructions(dataset, code, silent())
    assert scores["dupsampling"] == {"miou": pytest.approx(1.0), "pixel_accuracy": pytest.approx(1.0)}
    assert scores["bilinear_samples"]["miou"] < 1


@pytest.mark.parametrize("size", [(9, 13), (10, 16)])
def test_bilinear_samples_against_a_loop(size: tuple[int, int]) -> None:
    """Every pixel weighs the labels at the four features around it; void features do not count."""
    mask = np.random.default_rng(2).integers(0, 3, size).astype(np.uint8)
    mask[4, 8] = 255
    code = LabelCode(4, 3, "points", (), (), 0.0)
    evidence = bilinear_reconstruction(mask, code, means=False)
    wanted = np.zeros((3, *size))
    for row in range(size[0]):
        for column in range(size[1]):
            for i in (row // 4, row // 4 + 1):
                for j in (column // 4, column // 4 + 1):
                    weight = max(0.0, 1 - abs(row / 4 - i)) * max(0.0, 1 - abs(column / 4 - j))
                    inside = 4 * i < size[0] and 4 * j < size[1]
                    if inside and mask[4 * i, 4 * j] != 255:
                        wanted[mask[4 * i, 4 * j], row, column] += weight
    np.testing.assert_allclose(evidence.numpy(), wanted, atol=1e-6)


def test_window_means_leave_void_out() -> None:
    mask = np.array([[0, 255], [1, 0]], dtype=np.uint8)
    code = LabelCode(2, 2, "cells", (), (), 0.0)
    evidence = bilinear_reconstruction(mask, code, means=True)
    torch.testing.assert_close(evidence[:, 0, 0], torch.tensor([2 / 3, 1 / 3]))


def test_an_unknown_task_lists_the_valid_ones() -> None:
    def nothing() -> SegmentationDataModule:
        raise AssertionError("the data set must not be opened")

    assert {"dupsampling", "upper_bound"} <= set(TASKS)
    with pytest.raises(AtrousError, match=r"no preparation task='dup'; choose one of .*dupsampling.*upper_bound"):
        run_task("dup", {}, silent(), data=nothing)
