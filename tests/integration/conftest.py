"""A run small enough to be made many times, and one that is made once and looked at by many."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from omegaconf import DictConfig
from playwright.sync_api import Browser, sync_playwright

from atrous.commands.train import command as train
from atrous.reports.figures import new_figure
from atrous.training import SegmentationTask

FIGURES = {
    "atrous.callbacks.report": ("confusion_figure", "curves_figure"),
    "atrous.callbacks.architecture_report": ("operations_figure", "paths_figure", "genotype_figure"),
    "atrous.commands.evaluate.command": ("trimap_figure",),
    "atrous.reports.pages.run": ("curves_figure", "trimap_figure"),
}


@pytest.fixture
def drawn() -> None:
    """Figures are drawn in a test that asks for this."""


@pytest.fixture
def draw_nothing(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let all figures be blank."""

    def patch() -> None:
        for module, names in FIGURES.items():
            for name in names:
                monkeypatch.setattr(f"{module}.{name}", lambda *arguments, **options: new_figure(1, 1))

    return patch


@pytest.fixture(autouse=True)
def blank_figures(request: pytest.FixtureRequest, draw_nothing: Callable[[], None]) -> None:
    """Drawing takes half of the time of a tiny run."""
    if "drawn" not in request.fixturenames:
        draw_nothing()


class Trained(NamedTuple):
    """A finished run.

    Attributes:
        folder: The run's folder; its files are not to be changed.
        task: What was trained.
        said: What was printed.
    """

    folder: Path
    task: SegmentationTask
    said: str


@pytest.fixture(scope="session")
def tiny_options() -> tuple[str, ...]:
    """Overrides for six steps on small pictures with a validation after every third."""
    return (
        "backbone.name=test_resnet",
        "model.head.aspp_channels=16",
        "model.head.decoder_channels=16",
        "data.dataset.size=64",
        "data.dataset.lengths={train: 10, val: 3, test: 2}",
        "augment.crop_size=65",
        "data.batch_size=4",
        "data.eval_batch_size=1",
        "data.num_workers=0",
        "trainer.max_steps=6",
        "validate_every=3",
        "logger=csv",
    )


@pytest.fixture
def tiny(composed: Callable[..., DictConfig], tiny_options: tuple[str, ...]) -> Callable[..., DictConfig]:
    """Compose such a run."""
    return functools.partial(composed, "train", *tiny_options, "trainer=cpu")


@pytest.fixture(scope="session")
def train_with_random_classifier() -> Callable[[DictConfig], SegmentationTask]:
    """Train a network whose random classifier gives the pixels all classes, and that learns next to nothing.

    After six real steps a network calls everything background, which hides every mistake in what comes after it.
    """
    build_task = train.build_task

    def with_random_classifier(*arguments: Any) -> SegmentationTask:
        task = build_task(*arguments)
        with torch.no_grad():
            weight = task.segmentor.get_parameter("head.classifier.weight")
            weight.normal_().sub_(weight.mean(dim=1, keepdim=True))
        return task

    def run(config: DictConfig) -> SegmentationTask:
        config.task.learning_rate, config.model.batch_norm_momentum = 1e-6, 0.5
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(train, "build_task", with_random_classifier)
            return train.train(config)

    return run


@pytest.fixture(scope="session")
def trained(
    composed_in: Callable[..., DictConfig],
    tiny_options: tuple[str, ...],
    train_with_random_classifier: Callable[[DictConfig], SegmentationTask],
    tmp_path_factory: pytest.TempPathFactory,
) -> Trained:
    """Such a run."""
    config = composed_in(tmp_path_factory.mktemp("trained"), "train", *tiny_options, "trainer=cpu")
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        task = train_with_random_classifier(config)
    return Trained(Path(config.paths.run), task, said.getvalue())


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def kill_after_a_checkpoint(repository: Path) -> Callable[..., None]:
    """Start an entry point and end it by SIGKILL as soon as a folder holds a ``last.ckpt``."""

    def start_and_kill(script: str, *options: str, logs: Path) -> None:
        process = subprocess.Popen(
            [sys.executable, str(repository / "src" / script), *options, f"paths.logs={logs}"],
            cwd=logs.parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 120
        while not list(logs.rglob("last.ckpt")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()

    return start_and_kill
