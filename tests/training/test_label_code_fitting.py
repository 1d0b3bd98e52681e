"""Fitting a code of labels to a data set, and keeping it for later runs."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from atrous.data.dataset import RawSample, SegmentationDataset
from atrous.data.sets import VOC2012, Shapes
from atrous.errors import AtrousError
from atrous.geometry import Grid
from atrous.models.label_code import LabelCode
from atrous.models.upsamplers import DUpsampling
from atrous.training import label_code_fitting
from atrous.training.label_code_fitting import Masks, fit_label_code, fit_upsampler, label_code_file


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


@pytest.mark.parametrize("grid", list(Grid))
def test_windows_lie_where_the_upsampler_has_them(grid: Grid, tmp_path: Path) -> None:
    upsampler = unfitted(grid=grid)
    fit_upsampler(upsampler, shapes(), silent(), folder=tmp_path)
    wanted = fit_label_code(shapes(), silent(), ratio=8, width=4, grid=grid.value)
    assert wanted.grid is grid
    torch.testing.assert_close(upsampler.decoder[0].weight[..., 0, 0], wanted.decoder[0])


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
    """A custom data set, which only does what it has to."""

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
