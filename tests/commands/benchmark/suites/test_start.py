"""Commands as processes of their own."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from atrous.commands.benchmark.command import run_suite
from atrous.commands.benchmark.suites import start
from atrous.errors import AtrousError

SOURCE = Path(__file__).resolve().parents[4] / "src"


@pytest.mark.long
def test_help_takes_a_fraction_of_the_libraries() -> None:
    console = Console(file=io.StringIO(), width=200)
    result = run_suite("start", {"commands": {"help": "train --help"}, "rounds": 1}, console)
    libraries, help_ = result["rows"]
    assert libraries["ratio"] == 1
    assert help_["ratio"] == pytest.approx(libraries["processor_seconds"] / help_["processor_seconds"])
    assert help_["ratio"] > 3
    assert isinstance(console.file, io.StringIO)
    assert re.search(rf"help .* {help_['processor_seconds']:.2f} .* {help_['ratio']:.2f}x", console.file.getvalue())


def test_a_command_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "LIBRARIES", "import json")  # what they are compared with has its turn first
    with pytest.raises(AtrousError, match=r"start\.commands: 'wrong' failed with status 1: .*HYDRA_FULL_ERROR"):
        run_suite("start", {"commands": {"wrong": "train model=deeplabv4"}, "rounds": 1}, Console(file=io.StringIO()))
    with pytest.raises(AtrousError, match=r"start\.rounds=0 must be at least 1"):
        run_suite("start", {"commands": {}, "rounds": 0}, Console(file=io.StringIO()))


@pytest.mark.parametrize("command", ["train", "evaluate", "predict", "prepare", "benchmark"])
def test_reading_a_command_line_needs_no_pytorch(command: str) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); sys.argv[1:] = ['--cfg', 'job'];"
        f"from atrous.commands.{command} import main;"
        "main(); print(*{name.split('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(SOURCE)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
        timeout=120,
    )
    assert "paths:" in done.stdout
    loaded = set(done.stderr.split())
    assert "hydra" in loaded
    assert loaded & {"torch", "lightning", "timm", "numpy", "matplotlib", "wandb", "albumentations"} == set()
