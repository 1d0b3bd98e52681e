"""A run leaves figures and a summary, and remembers its best score over a resume."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from atrous.callbacks import LearningRates, ResumePoint, RunRecord, RunReport
from atrous.loggers import MetricsCSV


def best_kept(folder: Path) -> ModelCheckpoint:
    return ModelCheckpoint(folder, filename="best", monitor="val/miou", mode="max", save_on_train_epoch_end=False)


def test_figures_summary_and_table(fit: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loggers = [MetricsCSV(tmp_path), TensorBoardLogger(tmp_path, name="tensorboard", version="")]
    task, _ = fit(
        [RunReport(tmp_path, title="demo"), LearningRates(), best_kept(tmp_path / "checkpoints")], logger=loggers
    )

    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["confusion.png", "curves.png"]
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    best, last = summary["scores"]
    assert (best["label"], last["label"], last["step"]) == ("best", "last", 4)
    assert last["miou"] == task.last_scores.miou
    assert best["miou"] >= last["miou"]
    assert best["protocol"]["checkpoint"] == "best.ckpt"
    assert (tmp_path / "summary.md").read_text(encoding="utf-8").startswith("# demo\n")

    printed = capsys.readouterr().out
    assert best["protocol_line"] in printed
    assert "sky" in printed

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [image.step for image in events.Images("confusion_matrix")] == [2, 4]
    assert [text.step for text in events.Tensors("classes/text_summary")] == [2, 4]
    assert [text.step for text in events.Tensors("confusion_counts/text_summary")] == [4]
    header = (tmp_path / "metrics.csv").read_text().splitlines()[0]
    assert header.startswith("step,epoch,lr-SGD,train/loss,val/miou")


def test_best_score_survives_a_resume(fit: Callable[..., Any], tmp_path: Path) -> None:
    first = RunReport(tmp_path)
    last = tmp_path / "last.ckpt"
    fit([first, best_kept(tmp_path / "checkpoints"), ResumePoint(str(last))], steps=4)
    known = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))["scores"]
    before = torch.load(last, weights_only=True)["callbacks"]["RunReport"]["seconds"]

    resumed = RunReport(tmp_path)
    fit([resumed, best_kept(tmp_path / "checkpoints"), ResumePoint(str(last))], steps=4, ckpt_path=str(last))
    assert json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))["scores"] == known
    states = [report.state_dict() for report in (first, resumed)]
    assert 0 < before < states[0].pop("seconds")
    assert states[1].pop("seconds") == before  # there was nothing left to train
    assert states[0] == states[1]
    assert torch.tensor(states[0]["confusion"]).sum() == 3 * 47


@pytest.mark.parametrize("begun", [True, False])
def test_a_run_that_fails_has_a_page_if_it_had_begun(begun: bool, fit: Callable[..., Any], tmp_path: Path) -> None:
    class Failure(Callback):
        """Breaks off after the first validation, or before the first step."""

        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            raise RuntimeError("broken")

    record = RunRecord(tmp_path, config={"name": "toy"}, overrides=[], repository=None)
    with pytest.raises(RuntimeError, match="broken"):
        fit([record, RunReport(tmp_path), Failure()], num_sanity_val_steps=0 if begun else 1)
    assert (tmp_path / "report.html").is_file() is begun
    if begun:
        assert "weights" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_run_that_keeps_no_best_weights_reports_no_best_scores(
    fit: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = RunReport(tmp_path)
    fit([report, ResumePoint(str(tmp_path / "last.ckpt"))])
    (only,) = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))["scores"]
    assert (only["label"], only["step"], only["protocol"]["checkpoint"]) == ("last", 4, "last.ckpt")
    assert only["protocol_line"] in capsys.readouterr().out
    assert "best" not in report.state_dict()


def test_learning_rates_need_no_logger(fit: Callable[..., Any]) -> None:
    fit([LearningRates()], logger=False)
