"""Scoring a checkpoint from the command line's configuration."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig
from tests.reports.pages.reading import Read

from atrous.checkpoints import Card
from atrous.checkpoints.load import load_segmentor
from atrous.commands.evaluate import command as evaluate
from atrous.composition.parts import build_evaluation_data
from atrous.data.sets import Shapes
from atrous.data.sets.camvid import CAMVID
from atrous.errors import AtrousError
from atrous.metrics import BoundaryF1, BoundaryIoU, TrimapScore
from atrous.metrics.trimap import Borders, within_trimap

pytestmark = pytest.mark.integration

Compose = Callable[..., DictConfig]
SIZE, LENGTHS = 64, {"val": 3, "test": 2}  # of the run
CLASSES = Shapes("val").label_space.classes


@pytest.fixture(scope="session")
def run(trained: Any) -> Path:
    folder: Path = trained.folder
    return folder


def score(composed: Compose, *overrides: str) -> dict[str, Any]:
    """What is written; the memory format is that of the loop below, so that no rounding differs."""
    config = composed("evaluate", *overrides, "channels_last=false", run="scored")
    evaluate.evaluate(config)
    written: dict[str, Any] = json.loads((Path(config.paths.run) / "scores.json").read_text())
    for each in written.get("measurements", [written]):
        assert each.pop("cost")["seconds_per_image"] > 0
    return written


def count(
    run: Path, split: str, *, output_stride: int | None = None, trimap_width: int | None = None
) -> NDArray[np.int64]:
    """Confusion matrix of the run's best network by a plain loop: row = truth, column = prediction."""
    segmentor, _ = load_segmentor(run / "checkpoints" / "best.ckpt", output_stride=output_stride)
    confusion = np.zeros((8, 8), dtype=np.int64)
    dataset = Shapes(split, size=SIZE, lengths=LENGTHS)
    for raw in (dataset[index] for index in range(len(dataset))):
        with torch.no_grad():
            image = torch.from_numpy(raw.image.copy()).permute(2, 0, 1)
            prediction = segmentor(image.unsqueeze(0)).softmax(dim=1).argmax(dim=1)[0].numpy()
        mask = raw.mask
        if trimap_width is not None:
            mask = within_trimap(torch.from_numpy(mask.copy()).unsqueeze(0), trimap_width)[0].numpy()
        counted = mask != 255
        np.add.at(confusion, (mask[counted], prediction[counted]), 1)
    assert (confusion.sum(axis=0) > 0).sum() >= 6, "a network that knows few classes proves little"
    return confusion


def assert_scores(written: dict[str, Any], confusion: NDArray[np.int64]) -> None:
    """Every number that is written follows from these counts, to the last bit where it is one quotient."""
    right, truth, guessed = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    union = truth + guessed - right
    ious = [right[c] / union[c] if union[c] else None for c in range(8)]
    accuracies = [right[c] / truth[c] if truth[c] else None for c in range(8)]
    assert written["iou"] == dict(zip(CLASSES, ious, strict=True))
    assert written["accuracy"] == dict(zip(CLASSES, accuracies, strict=True))
    assert written["pixel_accuracy"] == right.sum() / confusion.sum()
    assert written["miou"] == pytest.approx(np.mean([iou for iou in ious if iou is not None]), rel=1e-12)
    counts = zip(CLASSES, truth.tolist(), guessed.tolist(), right.tolist(), strict=True)
    assert written["pixels"] == {name: {"truth": t, "prediction": p, "right": r} for name, t, p, r in counts}


@pytest.mark.parametrize(("split", "output_stride"), [("val", 16), ("test", 8)])
def test_scores_equal_a_plain_loop(split: str, output_stride: int, run: Path, composed: Compose) -> None:
    written = score(composed, f"ckpt_path={run}", f"split={split}", f"output_stride={output_stride}")
    assert_scores(written, count(run, split, output_stride=output_stride))
    assert written["protocol"]["split"] == split
    assert written["protocol"]["output_stride"] == output_stride
    assert written["protocol"]["trimap_width"] is None
    assert written["protocol"]["checkpoint"].endswith("best.ckpt")


def test_other_classes_are_refused(run: Path, composed: Compose, camvid_folder: Path) -> None:
    config = composed("evaluate", f"ckpt_path={run}", "data=camvid", f"data.root={camvid_folder}", run="scored")
    with pytest.raises(AtrousError, match=r"8 classes of 'shapes'.*11 of 'camvid'"):
        evaluate.evaluate(config)


def test_a_root_needs_no_split_but_the_one_that_is_scored(composed: Compose, camvid_folder: Path) -> None:
    for folder in ("images", "masks"):
        (camvid_folder / folder / "val").rename(camvid_folder / folder / "test")
    config = composed("evaluate", "ckpt_path=any", "data=camvid", f"data.root={camvid_folder}", "split=test")
    card = Card(label_space=CAMVID, preprocessing={}, recipe={}, score=None)
    data = build_evaluation_data(config, card)
    assert data.label_space == CAMVID
    assert data.dataset("test").split == "test"


def test_scores_of_the_band_around_objects(run: Path, composed: Compose) -> None:
    """Fewer pixels count, and the protocol says which."""
    written = score(composed, f"ckpt_path={run}", "trimap_width=2")
    near, everywhere = count(run, "val", trimap_width=2), count(run, "val")
    assert 0 < near.sum() < everywhere.sum()
    assert_scores(written, near)
    assert written["protocol"]["trimap_width"] == 2


def test_callbacks_add_what_comes_after_the_network_in_any_order(run: Path, composed: Compose) -> None:
    size = "callbacks.sliding_window.stage.size=33"
    scales = "callbacks.multi_scale_flip.stage.scales=[0.75,1.0]"
    names = ["evaluate", "multi_scale_flip", "sliding_window"]
    one = score(composed, f"ckpt_path={run}", f"callbacks=[{','.join(names)}]", size, scales)
    other = score(composed, f"ckpt_path={run}", f"callbacks=[{','.join(names[::-1])}]", size, scales)
    assert one == other
    assert one["protocol"]["scales"] == [0.75, 1.0]
    assert one["protocol"]["flip"] is True
    assert one["protocol"]["window"] == [33, 33]
    assert one["protocol"]["window_stride"] == [22, 22]
    chosen = score(
        composed,
        f"ckpt_path={run}",
        "inference=sliding_window",
        "inference.size=33",
        "callbacks=multi_scale_flip",
        scales,
    )
    del one["borders"]  # only the group evaluate measures them
    assert chosen == one
    assert one["iou"] != score(composed, f"ckpt_path={run}")["iou"]


def test_a_crf_comes_last_and_says_so(run: Path, composed: Compose) -> None:
    flip = "callbacks.multi_scale_flip.stage.scales=[1.0]"
    plain = score(composed, f"ckpt_path={run}", "callbacks=[evaluate,multi_scale_flip]", flip)
    one = score(composed, f"ckpt_path={run}", "callbacks=[evaluate,dense_crf,multi_scale_flip]", flip)
    other = score(composed, f"ckpt_path={run}", "inference=dense_crf", "callbacks=[evaluate,multi_scale_flip]", flip)
    assert one == other
    assert one["iou"] != plain["iou"]
    said = "CRF 4/67/3 + 3/3, 10 iterations, symmetric"
    assert one["protocol"] == {**plain["protocol"], "crf": said}
    preset = "crf@callbacks.dense_crf.stage.refiner=deeplabv1_largefov"
    named = score(composed, f"ckpt_path={run}", "callbacks=[evaluate,dense_crf]", preset)
    assert named["protocol"]["crf"] == "CRF 4/121/5 + 3/3, 10 iterations, after"
    config = composed("evaluate", f"ckpt_path={run}", "inference=dense_crf", "callbacks=[evaluate,dense_crf]", run="b")
    with pytest.raises(AtrousError, match="refined twice: by inference and by callbacks"):
        evaluate.evaluate(config)
    wrong = "callbacks.dense_crf.stage.refiner.kernels.bilateral.sigma_xy=wide"
    config = composed("evaluate", f"ckpt_path={run}", "callbacks=[evaluate,dense_crf]", wrong, run="c")
    with pytest.raises(AtrousError, match=r"kernels\.bilateral\.sigma_xy=\"wide\" must be a number"):
        evaluate.evaluate(config)


def test_another_set_of_scales_by_its_name(run: Path, composed: Compose) -> None:
    named = "inference@callbacks.multi_scale_flip.stage=multi_scale_flip_cityscapes"
    written = score(composed, f"ckpt_path={run}", "callbacks=[evaluate,multi_scale_flip]", named)
    assert written["protocol"]["scales"] == [0.75, 1.0, 1.25]
    assert written["protocol"]["flip"] is True


def test_two_sets_of_scales_are_refused_in_any_order(run: Path, composed: Compose) -> None:
    for names in ("multi_scale,flip", "flip,multi_scale", "multi_scale_flip,multi_scale"):
        config = composed("evaluate", f"ckpt_path={run}", f"callbacks=[evaluate,{names}]", run="refused")
        with pytest.raises(AtrousError, match="multi-scale testing is asked for twice"):
            evaluate.evaluate(config)


def predictions(run: Path, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """What the run's best network says about all images of a split, and the truth, B×H×W."""
    segmentor, _ = load_segmentor(run / "checkpoints" / "best.ckpt")
    dataset = Shapes(split, size=SIZE, lengths=LENGTHS)
    raws = [dataset[index] for index in range(len(dataset))]
    images = torch.stack([torch.from_numpy(raw.image.copy()).permute(2, 0, 1) for raw in raws])
    with torch.no_grad():
        guesses = torch.cat([segmentor(image.unsqueeze(0)).argmax(dim=1) for image in images])
    return guesses, torch.stack([torch.from_numpy(raw.mask.copy()) for raw in raws])


def test_borders_are_scored_beside_the_whole(run: Path, composed: Compose, drawn: None) -> None:
    written = score(composed, f"ckpt_path={run}", "callbacks.borders.widths=[1,4]", "callbacks.borders.iou_ratio=0.05")
    guess, truth = predictions(run, "val")
    borders = written["borders"]
    for kind in get_args(Borders):
        metric = TrimapScore(8, [1, 4], borders=kind)
        metric.update(guess, truth)
        wanted = {str(width): scores.miou for width, scores in metric.compute().items()}
        assert {width: each["miou"] for width, each in borders["trimap"][kind].items()} == wanted
        assert 0 <= wanted["1"] != wanted["4"]
    for name, outlines in (("boundary_f1", BoundaryF1(8)), ("boundary_iou", BoundaryIoU(8, ratio=0.05))):
        outlines.update(guess, truth)
        found = outlines.compute()
        assert borders[name]["mean"] == found.mean > 0
        assert list(borders[name]["classes"].values()) == [None if math.isnan(v) else v for v in found.classes]
    assert (Path(written_folder(composed)) / "figures" / "trimap.png").stat().st_size > 10_000
    assert "borders" not in score(composed, f"ckpt_path={run}", "callbacks.borders=null")


def written_folder(composed: Compose) -> str:
    """Where ``score`` writes."""
    return str(composed("evaluate", "ckpt_path=any", run="scored").paths.run)


def test_checkpoints_and_protocols_side_by_side(
    run: Path, composed: Compose, capsys: pytest.CaptureFixture[str], drawn: None
) -> None:
    """Each is what it would be alone, in the order that was asked for, in one table and one figure."""
    best, last = (str(run / "checkpoints" / f"{name}.ckpt") for name in ("best", "last"))
    protocols = ["inference=whole_image", "inference=multi_scale_flip inference.scales=[0.75,1.0] output_stride=8"]
    asked = f"protocols={json.dumps(protocols)}"
    words = ["output_stride=16", "split=test", "inference=flip"]  # which the protocols replace
    both = score(composed, f"ckpt_path=[{best},{last}]", asked, *words)["measurements"]
    said = capsys.readouterr().out
    singles = [
        score(composed, f"ckpt_path={path}", "split=test", *words)
        for path in (best, last)
        for words in (["output_stride=16"], protocols[1].split())
    ]
    labels = [f"{path} · {protocol}" for path in (best, last) for protocol in protocols]
    assert [each.pop("label") for each in both] == labels
    assert [each.pop("label") for each in singles] == [best, best, last, last]
    assert both == singles
    assert both[0]["iou"] != both[1]["iou"]
    assert [each["protocol"]["output_stride"] for each in both] == [16, 8, 16, 8]
    assert "2 of 4: " in said
    table = (Path(written_folder(composed)) / "comparison.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table if line.startswith("| ")][2:]
    assert [row[0] for row in rows] == labels
    assert [row[1] for row in rows] == [f"{100 * each['miou']:.1f}" for each in both]
    assert [line.partition(": ")[0] for line in table if line.startswith("- ")] == [f"- {label}" for label in labels]


def test_checkpoints_side_by_side_on_a_page(run: Path, composed: Compose, drawn: None) -> None:
    """With a page for each, whose command asks for it alone."""
    best, last = (str(run / "checkpoints" / f"{name}.ckpt") for name in ("best", "last"))
    score(composed, f"ckpt_path=[{best},{last}]", "split=test", 'protocols=["inference=flip"]')
    folder = Path(written_folder(composed))
    read = Read(folder / "report.html")
    assert [address for address in read.addresses if address.endswith(".html")] == ["1/report.html", "2/report.html"]
    assert [row[0] for row in read.rows[1:3]] == ["best.ckpt", "last.ckpt"]
    assert read.headings[:4] == ["Scores", "Curves", "Borders", "Classes"]
    (words,) = re.findall(r"python src/evaluate.py (.*)", Read(folder / "2" / "report.html").text)
    said = shlex.split(words)
    assert (said[0], said[-1]) == (f"ckpt_path={last}", "inference=flip")
    assert "split=test" in said
    assert not any(word.startswith("protocols=") for word in said)


def test_a_protocol_replaces_what_was_added_for_all(run: Path, composed: Compose) -> None:
    asked = 'protocols=["+trainer.limit_test_batches=1","inference=flip"]'
    one, two = score(composed, f"ckpt_path={run}", asked, "+trainer.limit_test_batches=2")["measurements"]
    pixels = [sum(counts["truth"] for counts in each["pixels"].values()) for each in (one, two)]
    assert 0 < pixels[0] <= SIZE**2 < pixels[1] <= 2 * SIZE**2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ckpt_path=[]"], r"ckpt_path=\[\] asks for nothing"),
        (["ckpt_path=[RUN,RUN]"], "names one of them twice"),
        (["ckpt_path=[RUN,nowhere.ckpt]"], "there is no checkpoint nowhere.ckpt"),
        (["ckpt_path=RUN", "protocols=[]"], "protocols=.* asks for nothing"),
        (["ckpt_path=RUN", 'protocols=["inference=nothing"]'], "Could not find 'inference/nothing'"),
        (["ckpt_path=RUN", 'protocols=["inference"]'], "inference: "),
        (["ckpt_path=RUN", 'protocols=["inference=\\"flip"]'], "is no list of overrides"),
        (["ckpt_path=RUN", 'protocols=["split=test ckpt_path=other"]'], "'ckpt_path=other' is for all protocols"),
        (["ckpt_path=RUN", "protocols=flip"], r"protocols=\"flip\" must be a list"),
    ],
)
def test_what_cannot_be_compared_is_told_at_once(
    run: Path, composed: Compose, words: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "build_trainer", None)  # nothing is computed
    config = composed("evaluate", *(word.replace("RUN", str(run)) for word in words), run="refused")
    with pytest.raises(AtrousError, match=message):
        evaluate.evaluate(config)
