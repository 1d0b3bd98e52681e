"""Fitting to a data set, the upper bound, and the choice of a task."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import DictConfig
from PIL import Image
from rich.console import Console

from atrous.checkpoints.load import load_segmentor
from atrous.commands import prepare as entry_point
from atrous.commands import train
from atrous.commands.prepare import TASKS, run_task
from atrous.commands.prepare.upper_bound import bilinear_reconstruction, score_reconstructions
from atrous.composition import build_data, build_segmentor, build_task
from atrous.data.data_module import SegmentationDataModule
from atrous.data.dataset import RawSample, SegmentationDataset
from atrous.data.sets import VOC2012, Shapes
from atrous.errors import AtrousError
from atrous.geometry import Grid
from atrous.models.label_code import LabelCode, fit_closed_form
from atrous.models.upsamplers import DUpsampling
from atrous.training import label_code_fitting
from atrous.training.label_code_fitting import Masks, fit_label_code, fit_upsampler, label_code_file

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
def test_an_upsampler_is_fitted_in_place(hidden: int | None, tmp_path: Path) -> None:
    upsampler = unfitted(hidden=hidden)
    fit_upsampler(upsampler, shapes(), silent(), folder=tmp_path)
    assert not upsampler.unfitted
    if hidden is None:
        wanted = fit_label_code(shapes(), silent(), ratio=8, width=4).decoder[0]
        torch.testing.assert_close(upsampler.decoder[0].weight[..., 0, 0], wanted)


def unfitted(**options: Any) -> DUpsampling:
    return DUpsampling(**{"grid": Grid.POINTS, "num_classes": 8, "ratio": 8, "width": 4, "weights": "fit", **options})


def test_later_runs_read_what_the_first_one_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, console = unfitted(), unfitted(), silent()
    fit_upsampler(first, shapes(), console, folder=tmp_path / "new")
    (file,) = (tmp_path / "new").iterdir()
    assert f"kept in {file}" in words(console)
    monkeypatch.setattr(label_code_fitting, "fit_closed_form", None)
    fit_upsampler(second, shapes(), console, folder=tmp_path / "new")
    assert f"shapes train (6 masks, closed_form), read from {file}" in words(console)
    assert torch.equal(first.decoder[0].weight, second.decoder[0].weight)


def words(console: Console) -> str:
    """What it said, without the breaks that fit it to a terminal."""
    assert isinstance(console.file, io.StringIO)
    return " ".join(console.file.getvalue().split())


def test_other_labels_and_other_options_have_other_files(voc_folder: Path, tmp_path: Path) -> None:
    """Each of these is fitted to something else, or is something else, than all others."""
    copy = tmp_path / "copy"
    shutil.copytree(voc_folder, copy)  # with the times of change
    mask = VOC2012("trainaug", root=voc_folder).masks[0]

    def file(dataset: SegmentationDataset, **options: Any) -> Path:
        return label_code_file(tmp_path, dataset, **{"ratio": 8, "width": 4, **options})

    files = [
        file(shapes()),
        file(shapes(count=7)),
        file(shapes("val")),
        file(Shapes("train", size=65, lengths={"train": 6})),
        file(Shapes("train", size=64, lengths={"train": 6}, seed=1)),
        file(Plain(shapes())),
        file(Plain(shapes(count=7))),
        *(file(VOC2012(split, root=voc_folder)) for split in ("train", "trainaug")),
        file(VOC2012("trainaug", root=copy)),
        *(file(shapes(), **{name: value}) for name, value in OTHER_OPTIONS.items()),
    ]
    Image.open(mask).transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(mask)
    files.append(file(VOC2012("trainaug", root=voc_folder)))
    assert len(set(files)) == len(files)
    assert file(shapes()) == files[0]
    assert file(VOC2012("trainaug", root=copy)) == file(VOC2012("trainaug", root=copy))


OTHER_OPTIONS = {"ratio": 16, "width": 5, "grid": "cells", "method": "gradient", "hidden": 8, "limit": 3, "seed": 1}


class Plain(SegmentationDataset):
    """Somebody's data set, which only does what it has to."""

    def __init__(self, other: Shapes) -> None:
        self.other = other
        self.label_space, self.split, self.names = other.label_space, other.split, other.names

    def __getitem__(self, index: int) -> RawSample:
        return self.other[index]


def test_a_damaged_file_is_replaced(tmp_path: Path) -> None:
    fit_upsampler(unfitted(), shapes(), silent(), folder=tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    for damaged in (b"", b"no code", whole[: len(whole) // 2]):
        file.write_bytes(damaged)
        fit_upsampler(unfitted(), shapes(), silent(), folder=tmp_path)
        LabelCode.load(file)
        assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_training_goes_on_where_nothing_can_be_kept(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    upsampler, console = unfitted(), silent()
    fit_upsampler(upsampler, shapes(), console, folder=tmp_path / "file" / "codes")
    assert not upsampler.unfitted
    assert "the next run fits again" in words(console)


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
