"""The search for a CRF: what it scores, that it goes on after a kill, and that its file is a choice of conf/crf."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hydra.utils import instantiate
from omegaconf import DictConfig
from PIL import Image

from atrous.commands.evaluate import command as evaluate
from atrous.commands.search import command as search
from atrous.commands.search.source import Source
from atrous.commands.search.tasks import crf as task
from atrous.crf import Bilateral, Gaussian
from atrous.errors import AtrousError

pytestmark = pytest.mark.integration

Compose = Callable[..., DictConfig]
SMALL = (
    "crf.weights=[2,6]",
    "crf.sigmas_xy=[5,20]",
    "crf.sigmas_rgb=[8]",
    "crf.quick_images=2",
    "crf.quick_iterations=2",
    "crf.keep=0.5",
)


@pytest.fixture(scope="session")
def run(trained: Any) -> Path:
    folder: Path = trained.folder
    return folder


def evaluated(composed: Compose, *overrides: str) -> float:
    config = composed("evaluate", *overrides, run="scored")
    evaluate.evaluate(config)
    return float(json.loads((Path(config.paths.run) / "scores.json").read_text())["miou"])


def test_a_search_from_end_to_end(run: Path, composed: Compose, capsys: pytest.CaptureFixture[str]) -> None:
    config = composed("search", f"ckpt_path={run}", *SMALL, "inference=flip", "crf.keep=0.75")
    search.search(config)
    folder = Path(config.paths.run)
    said = capsys.readouterr().out
    assert "4 points, few images, 2 iterations: 2/2" in said
    assert "3 points, all images, 10 iterations: 3/3" in said
    assert f"written to {folder / 'best.yaml'}" in said
    result = json.loads((folder / "crf.json").read_text())
    best = result["best"]
    assert result["images"] == 3
    assert result["miou"] == max(each["miou"] for each in result["scores"])
    assert {each["sigma_xy"] for each in result["scores"]} <= {5, 20, 12.5, 27.5}
    with np.load(folder / "search.npz") as ledger:  # nothing is counted twice
        seen = {tuple(key): count for key, count in zip(ledger["keys"], ledger["seen"], strict=True)}
    assert all(count == images for (*_, images, _), count in seen.items())
    assert result["crfs"] == sum(count for key, count in seen.items() if any(key[:3]))
    # evaluate says the same of no CRF, of the best one, and of one with each of the lattices
    checkpoint = (f"ckpt_path={run}", "inference=flip")
    assert evaluated(composed, *checkpoint) == pytest.approx(result["miou_without"], abs=1e-6)
    node = yaml.safe_load((folder / "best.yaml").read_text())
    crf = instantiate(node, _convert_="all")
    assert crf.kernels == (Bilateral(**best), Gaussian())
    of_lattices = {each["sigma_xy"]: each for each in result["scores"]}
    assert len(of_lattices) > 1
    for each in (best | {"miou": result["miou"]}, *of_lattices.values()):
        kernel = "callbacks.dense_crf.stage.refiner.kernels.bilateral"
        numbers = [f"{kernel}.{name}={each[name]}" for name in best]
        score = evaluated(composed, *checkpoint, "callbacks=[evaluate,dense_crf]", *numbers)
        assert score == pytest.approx(each["miou"], abs=1e-6)
    with Image.open(folder / "figures" / "crf.png") as figure:
        assert len(np.unique(np.asarray(figure.convert("RGB")).reshape(-1, 3), axis=0)) > 50


def test_the_crf_sees_interpolated_probabilities(run: Path, composed: Compose) -> None:
    source = Source(composed("search", f"ckpt_path={run}", "inference=stretched", "inference.size=32"), limit=1)
    probabilities, image, _ = source.read(source.places[0])
    assert image.shape[3] > 40
    # the nearest ones would come twice in a row
    assert not (probabilities[..., 1:] == probabilities[..., :-1]).flatten(0, 2).all(dim=0).any()


def test_a_killed_search_goes_on_where_it_was(
    run: Path, composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (f"ckpt_path={run}", *SMALL)
    whole = composed("search", *words, run="whole")
    search.search(whole)
    count = task._Measure._see
    seen: list[int] = []

    def until_the_fourth(self: Any, *arguments: Any) -> None:
        seen.append(1)
        if len(seen) == 4:
            raise KeyboardInterrupt
        count(self, *arguments)

    monkeypatch.setattr(task._Measure, "_see", until_the_fourth)
    with pytest.raises(SystemExit) as end:
        search.search(composed("search", *words, run="killed"))
    assert end.value.code == 130
    assert f"interrupted: the same command with resume={tmp_path / 'killed'} resumes" in capsys.readouterr().err
    seen.clear()

    def counted(self: Any, *arguments: Any) -> None:
        seen.append(1)
        count(self, *arguments)

    monkeypatch.setattr(task._Measure, "_see", counted)
    search.search(composed("search", *words, f"resume={tmp_path / 'killed'}", run="unused"))
    assert len(seen) < 2 + 3 + 2 + 3
    first, second = (json.loads((tmp_path / name / "crf.json").read_text()) for name in ("whole", "killed"))
    assert second["scores"] == first["scores"]
    assert (tmp_path / "killed" / "best.yaml").read_text() == (tmp_path / "whole" / "best.yaml").read_text()
    assert not (tmp_path / "unused" / "crf.json").exists()
    with pytest.raises(AtrousError, match=r"search with other settings \(quick_images, quick_iterations\)"):
        search.search(
            composed("search", *words, "crf.quick_iterations=3", "crf.quick_images=1", f"resume={tmp_path / 'killed'}")
        )


def test_a_file_in_conf_is_a_choice(run: Path, composed: Compose, repository: Path, tmp_path: Path) -> None:
    config = composed(
        "search",
        f"ckpt_path={run}",
        *SMALL,
        "crf.refinements=0",
        f"crf.output={tmp_path}/mine.yaml",
        "crf@crf.start=deeplabv1",
    )
    search.search(config)
    text = (tmp_path / "mine.yaml").read_text()
    assert text.startswith("# Found by task=crf on shapes val: mIoU ")
    assert yaml.safe_load(text)["normalization"] == "after"
    folder = tmp_path / "more" / "crf"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(text)
    composed_config = composed(
        "evaluate",
        f"ckpt_path={run}",
        "callbacks=[evaluate,dense_crf]",
        "crf@callbacks.dense_crf.stage.refiner=mine",
        f"hydra.searchpath=[file://{tmp_path / 'more'}]",
    )
    assert composed_config.callbacks.dense_crf.stage.refiner.normalization == "after"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["task=crfs"], "there is no search task=crfs; choose one of auto_deeplab, baseline, crf, decode, draw"),
        (["crf.weights=[]"], r"crf.weights=\[\] must be ascending numbers above 0"),
        (["crf.sigmas_xy=[50,40]"], "crf.sigmas_xy=.* must be ascending"),
        (["crf.sigmas_rgb=[0,1]"], "crf.sigmas_rgb=.* above 0"),
        (["crf.keep=0"], "crf.keep=0 must be greater than 0"),
        (["crf.images=0"], "crf.images=0 must be at least 1"),
        (["crf.refinements=x"], "crf.refinements=.*whole number"),
        (["crf@crf.start=short_range"], "crf.start has 0 bilateral kernels"),
        (["resume=nowhere"], "resume=nowhere is no folder"),
        (["split=nosplit"], "nosplit"),
        (["device=tpu"], "device=tpu is not on this machine"),
    ],
)
def test_what_cannot_be_searched_is_refused(run: Path, composed: Compose, words: list[str], message: str) -> None:
    with pytest.raises(AtrousError, match=message):
        search.search(composed("search", f"ckpt_path={run}", *words))
