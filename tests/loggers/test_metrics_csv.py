"""metrics.csv is whole after every write and does not notice that a run was interrupted."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from atrous.loggers import MetricsCSV
from atrous.loggers.metrics_csv import read_rows


def work(logger: MetricsCSV, first: int, last: int) -> None:
    """What a trainer logs for steps `first` to `last` - 1: a rate and a loss at each, scores after every third."""
    for step in range(first, last):
        logger.log_metrics({"lr-SGD": 0.01 * (10 - step)}, step)
        logger.log_metrics({"train/loss": 1 / (1 + step), "epoch": step // 3}, step)
        if step % 3 == 2:
            logger.log_metrics({"val/miou": step / 10, "val/iou/sky, sea": 0.5, "epoch": step // 3}, step)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_one_row_per_step(tmp_path: Path) -> None:
    logger = MetricsCSV(tmp_path / "run")
    work(logger, 0, 4)
    rows = table(tmp_path / "run" / "metrics.csv")
    assert list(rows[0]) == ["step", "epoch", "lr-SGD", "train/loss", "val/miou", "val/iou/sky, sea"]
    assert [row["step"] for row in rows] == ["0", "1", "2", "3"]
    assert float(rows[1]["train/loss"]) == 0.5
    assert rows[1]["val/miou"] == ""
    assert (rows[2]["val/miou"], rows[2]["epoch"]) == ("0.2", "0")


def test_file_is_whole_after_every_call(tmp_path: Path) -> None:
    logger = MetricsCSV(tmp_path)
    path = tmp_path / "metrics.csv"
    for step, name in enumerate(["a", "a", "b", "a", "c"]):
        logger.log_metrics({name: step}, step)
        logger.log_metrics({name: step + 0.25}, step)
        rows = table(path)
        assert path.read_bytes().endswith(b"\n")
        assert len(rows) == step + 1
        assert float(rows[-1][name]) == step + 0.25
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.csv"]


def test_values_are_exact(tmp_path: Path) -> None:
    MetricsCSV(tmp_path).log_metrics({"a": 0.1 + 0.2, "b": float("nan"), "c": 3.0}, 0)
    (row,) = table(tmp_path / "metrics.csv")
    assert float(row["a"]) == 0.1 + 0.2
    assert (row["b"], row["c"]) == ("nan", "3")


@pytest.mark.parametrize(("saved", "killed"), [(4, 8), (6, 6), (3, 4), (1, 2), (0, 5), (2, 9)])
def test_interrupted_equals_uninterrupted(tmp_path: Path, saved: int, killed: int) -> None:
    work(MetricsCSV(tmp_path / "whole"), 0, 9)
    work(MetricsCSV(tmp_path / "resumed"), 0, killed)
    work(MetricsCSV(tmp_path / "resumed"), saved, 9)
    assert (tmp_path / "resumed/metrics.csv").read_bytes() == (tmp_path / "whole/metrics.csv").read_bytes()


def test_scores_of_the_saved_step_survive(tmp_path: Path) -> None:
    """A checkpoint between a step's training and its validation: the resumed run only repeats the validation."""
    work(MetricsCSV(tmp_path / "whole"), 0, 3)
    first = MetricsCSV(tmp_path / "resumed")
    work(first, 0, 2)
    first.log_metrics({"lr-SGD": 0.08}, 2)
    first.log_metrics({"train/loss": 1 / 3, "epoch": 0}, 2)
    MetricsCSV(tmp_path / "resumed").log_metrics({"val/miou": 0.2, "val/iou/sky, sea": 0.5, "epoch": 0}, 2)
    assert (tmp_path / "resumed/metrics.csv").read_bytes() == (tmp_path / "whole/metrics.csv").read_bytes()


def test_cut_off_last_line_is_dropped(tmp_path: Path) -> None:
    work(MetricsCSV(tmp_path), 0, 5)
    path = tmp_path / "metrics.csv"
    path.write_bytes(path.read_bytes()[:-4])
    assert [row["step"] for row in read_rows(path)[1]] == ["0", "1", "2", "3"]
    work(MetricsCSV(tmp_path), 4, 6)
    assert [row["step"] for row in table(path)] == ["0", "1", "2", "3", "4", "5"]


def test_new_run_replaces_an_old_file(tmp_path: Path) -> None:
    work(MetricsCSV(tmp_path), 0, 6)
    MetricsCSV(tmp_path).log_metrics({"train/loss": 7}, 0)
    assert [row["step"] for row in table(tmp_path / "metrics.csv")] == ["0"]


def test_constructor_writes_nothing(tmp_path: Path) -> None:
    MetricsCSV(tmp_path / "run").log_hyperparams({"a": 1})
    assert not (tmp_path / "run").exists()


def test_missing_and_foreign_files_have_no_rows(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "no.csv") == ([], [])
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    assert read_rows(tmp_path / "other.csv") == ([], [])
