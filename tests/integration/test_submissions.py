"""Evaluation of files in the layout of VOC: with several processes, and without labels."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig
from PIL import Image

from atrous.commands.evaluate.command import evaluate
from atrous.data.sets.voc import VOC_2012
from atrous.errors import AtrousError

pytestmark = pytest.mark.integration

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def devkit(voc_folder: Path) -> Path:
    """Seven pictures of two sizes and with a different truth each, in an order that mixes the sizes."""
    names = [f"2012_{number:06d}" for number in range(7)]
    rng = np.random.default_rng(0)
    for number, name in enumerate(names):
        height, width = ((24, 40), (40, 24))[number % 3 == 1]
        pixels = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
        Image.fromarray(pixels).save(voc_folder / "JPEGImages" / f"{name}.jpg", quality=95)
        ids = rng.choice([0, 3, 7, 15, 255], (height // 4, width // 4)).repeat(4, axis=0).repeat(4, axis=1)
        mask = Image.fromarray(ids.astype(np.uint8))
        mask.putpalette(VOC_2012.png_palette())
        mask.save(voc_folder / "SegmentationClass" / f"{name}.png")
    for split in ("train", "val"):
        (voc_folder / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    return voc_folder


@pytest.fixture
def run(
    devkit: Path,
    composed: Callable[..., DictConfig],
    tiny_options: tuple[str, ...],
    train_with_random_classifier: Callable[[DictConfig], Any],
) -> Path:
    """A network for the classes of VOC that knows nothing."""
    small = [word for word in tiny_options if not word.startswith("data.dataset.")]
    words = ("trainer=cpu", "data=voc", f"data.root={devkit}", "data.train_split=train", "backbone.pretrained=false")
    config = composed("train", *small, *words)
    train_with_random_classifier(config)
    return Path(config.paths.run)


@pytest.mark.long
def test_several_processes_score_and_write_what_one_does(
    run: Path, devkit: Path, tmp_path: Path, repository: Path, command: Command
) -> None:
    results: dict[int, Any] = {}
    words = [
        *(f"ckpt_path={run}", "data=voc", f"data.root={devkit}", "data.eval_batch_size=2", "data.num_workers=0"),
        'protocols=["inference=whole_image","inference=multi_scale_flip inference.scales=[0.75,1.0]"]',
        "callbacks=[evaluate,submission]",
    ]
    for processes in (1, 2):
        folder = tmp_path / f"with_{processes}"
        if processes == 1:
            done = command("evaluate.py", *words, f"hydra.run.dir={folder}", "trainer=cpu", cwd=tmp_path)
        else:
            script = [sys.executable, str(repository / "src" / "evaluate.py"), *words, f"hydra.run.dir={folder}"]
            done = subprocess.run(
                [*script, "trainer=ddp_cpu"], cwd=tmp_path, capture_output=True, text=True, timeout=300
            )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("submission of 7 masks, checked: ") == 2
        results[processes] = json.loads((folder / "scores.json").read_text())["measurements"]
        for each in results[processes]:
            del each["cost"]
    assert results[1] == results[2]
    assert len(results[1]) == 2
    pixels = results[1][0]["pixels"].values()
    assert sum(counts["truth"] for counts in pixels) > 1000
    assert sum(counts["prediction"] > 0 for counts in pixels) > 3, "a network that knows few classes proves little"
    assert results[1][0]["borders"]["trimap"]["void"]["1"]["miou"] is not None
    for number in (1, 2):
        one, other = (tmp_path / f"with_{each}" / f"{number}" / "submission" / "voc_val.tar.gz" for each in (1, 2))
        assert one.read_bytes() == other.read_bytes()
        with tarfile.open(one) as archive:
            assert [Path(name).stem for name in archive.getnames()] == [f"2012_{number:06d}" for number in range(7)]


def test_without_labels_there_is_a_submission_or_nothing(
    run: Path, devkit: Path, composed: Callable[..., DictConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    (devkit / "ImageSets" / "Segmentation" / "test.txt").write_text("2012_000003\n2012_000001\n")
    words = [f"ckpt_path={run}", "data=voc", f"data.root={devkit}", "split=test", "trainer=cpu", "data.num_workers=0"]
    with pytest.raises(AtrousError, match=r"voc test has no labels.*callbacks=\[evaluate,submission\]"):
        evaluate(composed("evaluate", *words, run="refused"))
    config = composed("evaluate", *words, "callbacks=[evaluate,submission]", run="tested")
    capsys.readouterr()
    evaluate(config)
    assert "submission of 2 masks, checked: " in capsys.readouterr().out
    written = sorted(path.name for path in Path(config.paths.run).rglob("*") if path.is_file())
    assert written == ["2012_000001.png", "2012_000003.png", "voc_test.tar.gz"]
