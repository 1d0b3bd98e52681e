"""Every choice of callbacks and loggers can be built from its configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate


def build(repository: Path, run: Path, group: str, choice: str, *overrides: str) -> dict[str, Any]:
    with initialize_config_dir(str(repository / "conf"), version_base="1.3"):
        config = compose(overrides=[f"+{group}={choice}", "+name=demo", f"+paths.run={run}", *overrides])
    built: dict[str, Any] = instantiate(config[group], _convert_="all")
    return built


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("none", []),
        ("minimal", ["best", "last"]),
        ("default", ["images", "progress", "learning_rates", "panels", "report", "best", "last"]),
        ("ema", ["images", "average", "progress", "learning_rates", "panels", "report", "best", "last"]),
    ],
)
def test_callbacks_in_their_order(repository: Path, tmp_path: Path, choice: str, names: list[str]) -> None:
    assert list(build(repository, tmp_path, "callbacks", choice)) == names


@pytest.mark.parametrize(
    ("choice", "names"),
    [("none", []), ("csv", ["csv"]), ("default", ["csv", "tensorboard"])],
)
def test_loggers(repository: Path, tmp_path: Path, choice: str, names: list[str]) -> None:
    loggers = build(repository, tmp_path, "logger", choice)
    assert list(loggers) == names
    assert all(Path(logger.log_dir) in (tmp_path, tmp_path / "tensorboard") for logger in loggers.values())


def test_wandb_offline_is_one_override(repository: Path, tmp_path: Path) -> None:
    loggers = build(repository, tmp_path, "logger", "wandb", "logger.wandb.offline=true")
    assert list(loggers) == ["csv", "tensorboard", "wandb"]
    assert loggers["wandb"].version == (tmp_path / "wandb_id.txt").read_text().strip()
