"""The page that says how to add a part: its classes and files, as they stand there, train and score."""

from __future__ import annotations

import importlib
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import atrous
from atrous.commands.train import command as train
from atrous.composition import compose
from atrous.errors import AtrousError
from atrous.runs import CHECKPOINTS

pytestmark = [pytest.mark.integration, pytest.mark.slow]

PAGE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")


@pytest.fixture
def parts(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the configuration with the page's files, and the page's package."""
    shutil.copytree(repository / "conf", tmp_path / "conf")
    for block in re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL):
        path = tmp_path / block.splitlines()[0].removeprefix("# ")
        assert not path.exists()
        path.write_text("\n".join(block.splitlines()[1:]) + "\n")
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL))
    (tmp_path / "my_parts.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(importlib.import_module("atrous.composition.compose"), "CONFIGURATION", tmp_path / "conf")
    yield tmp_path
    sys.modules.pop("my_parts", None)


def write_roofs(folder: Path) -> None:
    generator = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for kind in ("images", "masks"):
            (folder / split / kind).mkdir(parents=True)
        for index in range(count):
            mask = np.zeros((48, 56), dtype=np.uint8)
            mask[10:30, 8 : 30 + index] = 1
            image = generator.integers(0, 128, (48, 56, 3), dtype=np.uint8) + 100 * mask[..., None]
            Image.fromarray(image).save(folder / split / "images" / f"{index}.png")
            Image.fromarray(mask).save(folder / split / "masks" / f"{index}.png")


@pytest.mark.parametrize(
    "choices",
    [
        ["model=linear", "backbone=plain", "upsampler=nearest", "loss=brier", "data=roofs"],
        ["model=linear", "backbone=regnet", "data.dataset.size=64", "data.dataset.lengths={train: 4, val: 2}"],
        ["model=deeplabv3plus", "backbone=plain", "model.head.aspp_channels=8", "loss=brier", "data=roofs"],
    ],
    ids=["all of them", "a backbone by its file", "the papers' head on a backbone of one's own"],
)  # fmt: skip
def test_the_parts_of_the_page_train_and_are_scored(choices: list[str], parts: Path) -> None:
    write_roofs(parts / "data" / "roofs")
    words = [f"paths.{name}={parts / name}" for name in ("data", "logs", "run")]
    words += ["pretrained=false", "data.num_workers=0", "data.batch_size=2", "data.eval_batch_size=1"]
    words += ["trainer=cpu", "trainer.max_steps=2", "validate_every=2", "logger=none", "augment.crop_size=65"]
    with compose("train", [*choices, *words]) as config:
        task = train.train(config)
    assert task.last_scores is not None
    assert task.segmentor.output_stride == 16
    best = parts / "run" / CHECKPOINTS / "best.ckpt"
    if "data=roofs" in choices:
        with pytest.raises(AtrousError, match=r"my_parts\..*trust=\["):
            atrous.load(best)
    network, card = atrous.load(best, trust=["my_parts"], output_stride=8)
    assert network.output_stride == 8
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 40, 50)).shape == (1, card.label_space.num_classes, 40, 50)


def test_every_example_is_short() -> None:
    """Under fifteen lines besides the class itself."""
    for section in PAGE.split("\n## ")[1:]:
        lines = [
            line for block in re.findall(r"```yaml\n(.*?)```", section, flags=re.DOTALL) for line in block.splitlines()
        ]
        assert 0 < len(lines) < 15, section.splitlines()[0]
