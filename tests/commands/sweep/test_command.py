"""What a sweep makes of the scores that are there, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from atrous.commands.sweep import command
from atrous.commands.sweep.command import sweep
from atrous.commands.sweep.trainings import Training
from atrous.errors import AtrousError
from atrous.metrics import Protocol

Compose = Callable[..., DictConfig]
PROTOCOL = Protocol("shapes", "val", 16, checkpoint="last.ckpt").to_dict()


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """In place of trainings: a score from the number of the seed and of the arm; gives what was trained."""
    trained: list[str] = []

    def run_all(
        trainings: list[Training], *, jobs: int, done: Callable[..., None], failed: Callable[..., None]
    ) -> None:
        for number, training in enumerate(trainings):
            trained.append(training.label)
            measured = {"miou": (50 + 10 * training.seed + number % 3) / 100, "protocol": PROTOCOL, "cost": {"s": 2.5}}
            training._keep(training.missing, {"measurements": [measured] * len(training.missing)})
            done(training, 60.0)

    monkeypatch.setattr(command, "run_all", run_all)
    return trained


@pytest.fixture
def loss(composed: Compose, tmp_path: Path) -> Callable[..., DictConfig]:
    return lambda *words: composed("sweep", "sweep=loss", f"folder={tmp_path / 'sweeps'}", *words)


def test_a_page_gets_table_figure_and_numbers(
    loss: Callable[..., DictConfig], scored: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "claims.md"
    page.write_text("# Claims\n", encoding="utf-8")
    sweep(loss(f"page={page}"))
    assert len(scored) == 9
    assert scored[:3] == ["cross-entropy, seed 0", "focal, seed 0", "cross-entropy, balanced classes, seed 0"]
    text = page.read_text(encoding="utf-8")
    assert "| focal | 61.0 ± 10.0 | +1.0 ± 0.0 |" in text
    assert "over 3 seeds; shapes val · OS 16" in text
    assert "last.ckpt" not in text, "every run has its own"
    assert {path.name for path in (tmp_path / "claims").iterdir()} == {
        f"loss_claims_shapes{rest}" for rest in (".json", ".svg", ".png", "_dark.svg", "_dark.png")
    }
    assert "written to" in capsys.readouterr().out
    sweep(loss(f"page={page}", "seeds=[0,1,2,3]"))
    assert len(scored) == 12, "what is done is done"
    assert "over 4 seeds" in page.read_text(encoding="utf-8")


def test_shares_are_percent_and_costs_are_not(
    loss: Callable[..., DictConfig], scored: list[str], tmp_path: Path
) -> None:
    config = loss("seeds=[1]")
    config.sweep.measures = {"mIoU": "miou", "seconds": "cost.s"}
    sweep(config)
    found = json.loads(
        (tmp_path / "sweeps" / "loss_claims_shapes" / "loss_claims_shapes.json").read_text(encoding="utf-8")
    )
    assert found["arms"][0]["measured"] == {"mIoU": {"1": 60.0}, "seconds": {"1": 2.5}}


@pytest.mark.parametrize(
    ("path", "sentence"),
    [("mious", "an evaluation has no 'mious' there, but .*miou"), ("cost", "is no number: go on with one of s")],
)
def test_a_measure_that_is_not_there_is_told(
    path: str, sentence: str, loss: Callable[..., DictConfig], scored: list[str]
) -> None:
    config = loss("seeds=[1]")
    config.sweep.measures = {"mIoU": path}
    with pytest.raises(AtrousError, match=sentence):
        sweep(config)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["seeds=[]"], "must be one or more different numbers"),
        (["seeds=[1,1]"], "must be one or more different numbers"),
        (["jobs=0"], "jobs=0 must be at least 1"),
        (["page=nowhere.md"], "page=nowhere.md does not exist"),
        (["page=README.md", "arms=[focal]"], "page= shows all arms"),
    ],
)
def test_what_is_refused(
    words: list[str], sentence: str, loss: Callable[..., DictConfig], repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    with pytest.raises(AtrousError, match=sentence):
        sweep(loss(*words))


def test_a_failure_is_told_at_the_end(
    loss: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        command, "run_all", lambda trainings, *, jobs, done, failed: [failed(each, "no memory") for each in trainings]
    )
    with pytest.raises(SystemExit) as end:
        sweep(loss("seeds=[7]"))
    assert end.value.code == 1
    assert "error: focal, seed 7: no memory (all it said is in " in capsys.readouterr().err
