"""Several data sets as one: its samples are theirs, and draws have the ratio of the weights."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from omegaconf import DictConfig

from atrous.checkpoints.recipe import build_data_module
from atrous.composition import plain
from atrous.composition.parts import build_data
from atrous.data.loading.sampling import TrainingStream
from atrous.data.sets import VOC2012, CamVid, Mix, Shapes
from atrous.errors import AtrousError

small = functools.partial(Shapes, size=64, lengths={"train": 4, "val": 3, "test": 2})
large = functools.partial(Shapes, size=72, lengths={"train": 12, "val": 3, "test": 2}, seed=1)


@pytest.fixture
def mixed() -> Callable[[str], Mix]:
    return lambda split: Mix(split, parts={"a": small, "b": large}, train_splits={"a": "train", "b": "val"})


def test_samples_are_those_of_the_parts(mixed: Callable[[str], Mix]) -> None:
    mix, of = mixed("train"), [small("train"), large("val")]
    assert len(mix) == 7
    assert mix.names == [*of[0].names, *of[1].names]
    places = [(part, inner) for part in of for inner in range(len(part))]
    for index, (part, inner) in enumerate(places):
        np.testing.assert_array_equal(mix[index].image, part[inner].image)
        np.testing.assert_array_equal(mix[index].mask, part[inner].mask)
        np.testing.assert_array_equal(mix.mask(index), part.mask(inner))
        assert mix.image_size(index) == part.size
    with pytest.raises(IndexError):
        mix[7]
    assert mixed("val").names == small("val").names, "the first part is validated on"
    assert mixed("test").names == small("test").names


def test_draws_have_the_ratio_of_the_weights() -> None:
    mix = Mix("train", parts={"a": small, "b": large}, train_splits={"a": "train", "b": "train"})
    stream = TrainingStream(16, batch_size=16, chunk=500, seed=0, repeats=mix.repeats({"a": 3, "b": 1}))
    drawn = Counter(draw.sample < 4 for batch in stream for draw in batch)
    assert drawn[True] / drawn[False] == pytest.approx(3, rel=0.02)
    of_each = Counter(draw.sample for batch in stream for draw in batch)
    assert max(of_each[sample] for sample in range(4)) / min(of_each[sample] for sample in range(4)) < 1.01


def test_parts_are_named_on_the_command_line(
    composed: Callable[..., DictConfig], voc_folder: Path, tmp_path: Path
) -> None:
    """Each with the settings of its own file; and what a checkpoint says builds the same."""
    root = voc_folder.parents[1]
    config = composed("train", "data=mix", "data.parts={voc: 1}", f"data.root={root}", "data.num_workers=0")
    data = build_data(config.data)
    assert data.dataset("train").names == VOC2012("trainaug", root=root).names
    assert data.dataset("val").names == VOC2012("val", root=root).names
    again = build_data_module(plain(config)["data"])
    assert again.dataset("train").names == data.dataset("train").names


def test_mistakes_are_explained(
    composed: Callable[..., DictConfig], camvid_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(AtrousError, match=r"data=mix has no data sets: .*data\.parts="):
        build_data(composed("train", "data=mix").data).dataset("train")
    for name in ("shapes", "vocs", "mix"):
        config = composed("train", "data=mix", f"data.parts={{voc: 1, {name}: 1}}")
        with pytest.raises(SystemExit):
            build_data(config.data)
        assert f"no files of a data set '{name}'; choose from ade20k, camvid" in capsys.readouterr().err
    with pytest.raises(AtrousError, match="are of a mixed data set: choose data=mix"):
        build_data(composed("train", "data=shapes", "data.parts={shapes: 1}").data).train_dataloader()
    camvid = functools.partial(CamVid, root=camvid_folder)
    parts = {"a": small, "b": lambda *, split: camvid(split)}
    with pytest.raises(AtrousError, match=r"b has other classes than a \(class 0 is 'Sky' instead of 'background'"):
        Mix("train", parts=parts, train_splits={"a": "train", "b": "train"})
    mix = Mix("train", parts={"a": small, "b": large}, train_splits={"a": "train", "b": "train"})
    for weights in ({"a": 1.0}, {"a": 1.0, "b": 0.0}, {"a": 1.0, "b": -1.0}):
        with pytest.raises(AtrousError, match="every data set needs a weight above 0"):
            mix.repeats(weights)
