"""Fitting by the command, the upper bound, and the choice of a task."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from rich.console import Console

from atrous.checkpoints.load import load_segmentor
from atrous.commands.prepare import command as entry_point
from atrous.commands.prepare.command import TASKS, run_task
from atrous.commands.prepare.tasks.upper_bound import bilinear_reconstruction, score_reconstructions
from atrous.commands.train import command as train
from atrous.composition.parts import build_data, build_segmentor, build_task
from atrous.data.data_module import SegmentationDataModule
from atrous.data.sets import Shapes
from atrous.errors import AtrousError
from atrous.geometry import Grid
from atrous.models.label_code import LabelCode, fit_closed_form
from atrous.models.upsamplers import DUpsampling
from atrous.training import label_code_fitting
from atrous.training.label_code_fitting import Masks

SMALL = ("data.dataset.size=64", "data.dataset.lengths={train: 6, val: 3}")


def silent() -> Console:
    return Console(file=io.StringIO(), width=200)


def shapes(split: str = "train", count: int = 6) -> Shapes:
    return Shapes(split, size=64, lengths={split: count})


def test_the_entry_point_writes_what_training_reads(
    composed: Callable[..., DictConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry_point.prepare(composed("prepare", *SMALL, "task=dupsampling", "dupsampling.width=8"))
    (file,) = (tmp_path / "data" / "dupsampling").iterdir()
    figures = json.loads((tmp_path / "run" / "dupsampling.json").read_text())
    assert figures["output"] == str(file)
    code = LabelCode.load(file)
    assert figures["explained"] == code.explained
    monkeypatch.setattr(label_code_fitting, "fit_closed_form", None)
    config = composed("train", *SMALL, *NETWORK, "upsampler.width=8", "upsampler.ratio=16")
    segmentor = build_task(config, build_data(config.data)).segmentor
    assert isinstance(segmentor.upsampler, DUpsampling)
    torch.testing.assert_close(segmentor.upsampler.decoder[0].weight[..., 0, 0], code.decoder[0])
    logits = segmentor.eval()(torch.zeros(1, 3, 40, 56, dtype=torch.uint8))
    assert logits.shape == (1, 8, 40, 56)


NETWORK = ("backbone.name=test_resnet", "backbone=timm", "model=dupsampling", "model.head.low_level=[]")


def test_a_file_is_written_where_it_is_wanted(composed: Callable[..., DictConfig], tmp_path: Path) -> None:
    wanted = tmp_path / "own" / "code.pt"
    options = ["dupsampling.width=8", "dupsampling.limit=3", f"dupsampling.output={wanted}"]
    entry_point.prepare(composed("prepare", *SMALL, *options))
    config = composed("train", *NETWORK, "upsampler.width=8", "upsampler.ratio=16", f"upsampler.weights={wanted}")
    assert not build_segmentor(config.model, 8).upsampler.unfitted


def test_nothing_is_fitted_for_a_trained_network(
    composed: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [*SMALL, *NETWORK, "augment.crop_size=65", "data.batch_size=2", "data.num_workers=0", "logger=none"]
    options += ["callbacks=minimal", "trainer=cpu", "trainer.max_steps=1", "upsampler.width=8"]
    trained = train.train(composed("train", *options)).segmentor
    monkeypatch.setattr(label_code_fitting, "fit_closed_form", None)
    shutil.rmtree(composed("train").paths.label_codes)
    run = composed("train", *options).paths.run
    loaded, _ = load_segmentor(run)
    resumed = train.train(composed("train", *options, "ckpt_path=last")).segmentor
    for segmentor in (loaded, resumed):
        assert torch.equal(segmentor.upsampler.decoder[0].weight, trained.upsampler.decoder[0].weight)


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
    code = LabelCode(4, 3, Grid.POINTS, (), (), 0.0)
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
    code = LabelCode(2, 2, Grid.CELLS, (), (), 0.0)
    evidence = bilinear_reconstruction(mask, code, means=True)
    torch.testing.assert_close(evidence[:, 0, 0], torch.tensor([2 / 3, 1 / 3]))


def test_an_unknown_task_lists_the_valid_ones() -> None:
    def nothing() -> SegmentationDataModule:
        raise AssertionError("the data set must not be opened")

    assert {"dupsampling", "upper_bound"} <= set(TASKS)
    with pytest.raises(AtrousError, match=r"no preparation task='dup'; choose one of .*dupsampling.*upper_bound"):
        run_task("dup", {}, silent(), data=nothing)
