"""A whole sweep, each training in a process of its own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def test_a_sweep_is_done_once_and_goes_on(
    command: Callable[..., subprocess.CompletedProcess[str]], tiny_options: tuple[str, ...], tmp_path: Path
) -> None:
    """One training with two evaluations; then another seed; then nothing is left to do."""
    small = [word for word in tiny_options if "decoder" not in word]
    train = " ".join(f'"{word}"' for word in (*small, "pretrained=false", "scheduler.warmup_steps=0"))
    words = [
        "sweep=output_stride",
        "arms=['train 16, evaluate 16','train 16, evaluate 8']",
        f"train='{train}'",
        f"folder={tmp_path / 'sweeps'}",
        "keep_checkpoints=false",
    ]
    done = command("sweep.py", *words, "seeds=[0]", cwd=tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "2 arms, 1 seeds: 1 trainings, 0 of them done" in done.stdout
    assert "| train 16, evaluate 8 | 78.51 |" in done.stdout
    again = command("sweep.py", *words, "seeds=[0]", cwd=tmp_path)
    assert "1 of them done" in again.stdout
    folder = tmp_path / "sweeps" / "output_stride_claims_shapes"
    found = json.loads((folder / "output_stride_claims_shapes.json").read_text(encoding="utf-8"))
    by_arm = {arm["name"]: arm["measured"]["mIoU"]["0"] for arm in found["arms"]}
    (run,) = (tmp_path / "sweeps" / "runs").glob("*/seed_0")
    scores = [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted((run / "scores").glob("?" * 12 + ".json"))
    ]
    assert {each["protocol"]["output_stride"]: round(100 * each["miou"], 4) for each in scores} == {
        16: by_arm["train 16, evaluate 16"],
        8: by_arm["train 16, evaluate 8"],
    }
    assert not (run / "checkpoints").exists()


def test_a_training_that_fails_is_listed_and_is_status_1(
    command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    words = ["sweep=loss", "arms=[focal]", "seeds=[0]", "train='data.dataset.size=0'", f"folder={tmp_path / 'sweeps'}"]
    done = command("sweep.py", *words, cwd=tmp_path)
    assert done.returncode == 1
    assert "error: focal, seed 0: " in done.stderr
    assert "log.txt" in done.stderr
