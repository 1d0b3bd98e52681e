"""A training that is killed at any moment goes on, and becomes bit by bit what it would have become."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.torture.killer import MOMENTS

from atrous.runs import CHECKPOINTS

pytestmark = pytest.mark.torture

HERE = Path(__file__).parent
OPTIONS = (
    "backbone.name=test_resnet", "model.head.aspp_channels=8", "model.head.decoder_channels=8", "data.dataset.size=64",
    "data.dataset.lengths={train: 12, val: 4, test: 2}", "augment.crop_size=65", "data.batch_size=4",
    "data.num_workers=2", "trainer=cpu", "trainer.max_steps=16", "validate_every=4", "logger=csv", "callbacks=ema",
    "callbacks.last.every=2", "trainer.log_every_n_steps=1", "+callbacks.killer._target_=killer.Killer",
)  # fmt: skip

Train = Callable[..., int]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Kinds of moments in turn, each at a random count; the seed is fixed, so that a failure comes again."""
    if "moment" in metafunc.fixturenames:
        drawn = random.Random(0)
        left = {kind: drawn.sample(range(1, count + 1), count) for kind, count in MOMENTS.items()}
        moments = [
            f"{kind}:{counts[turn]}" for turn in range(30) for kind, counts in left.items() if turn < len(counts)
        ]
        metafunc.parametrize("moment", moments[: metafunc.config.getoption("--kills", 0)])


def train(folder: Path, *words: str, kill: str = "never:0") -> int:
    """Train in a folder, and tell the status."""
    source = HERE.parents[1] / "src" / "train.py"
    process = subprocess.Popen(
        [sys.executable, str(source), *words, f"paths.logs={folder}"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE), "KILL": kill, "MARK": str(folder)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return process.wait(timeout=200)


def left_over(folder: Path) -> list[str]:
    """Processes that were started by a training in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"MARK={folder}\0".encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text())
        except OSError:
            continue
    return found


def result(folder: Path) -> tuple[dict[str, Any], bytes]:
    """The last checkpoint, and the curve."""
    (run,) = (path.parent for path in folder.rglob("metrics.csv"))
    return torch.load(run / CHECKPOINTS / "last.ckpt", weights_only=True), (run / "metrics.csv").read_bytes()


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], bytes]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    assert train(folder, *OPTIONS) == 0
    return result(folder)


def test_a_killed_training_becomes_what_it_would_have_become(
    moment: str, uninterrupted: tuple[dict[str, Any], bytes], tmp_path: Path
) -> None:
    assert train(tmp_path, *OPTIONS, kill=moment) == -signal.SIGKILL, "it was not killed"
    deadline = time.monotonic() + 20
    while processes := left_over(tmp_path):
        assert time.monotonic() < deadline, f"still running: {processes}"
        time.sleep(0.1)
    for path in tmp_path.rglob("*.ckpt"):
        torch.load(path, weights_only=True)  # whole, whatever it is
    if list(tmp_path.rglob("last.ckpt")):
        (run,) = (path.parents[1] for path in tmp_path.rglob("last.ckpt"))
        assert train(tmp_path, f"ckpt_path={run}", OPTIONS[-1]) == 0
    else:
        assert train(tmp_path / "again", *OPTIONS) == 0
        tmp_path = tmp_path / "again"
    (wanted, curve), (found, curve_found) = uninterrupted, result(tmp_path)
    assert curve_found == curve
    assert found["global_step"] == wanted["global_step"] == 16
    for kind in ("state_dict", "current_model_state"):
        assert found[kind].keys() == wanted[kind].keys()
        for name, tensor in wanted[kind].items():
            assert torch.equal(found[kind][name], tensor), f"{kind}: {name}"
    assert not list(tmp_path.rglob("*.partial"))
