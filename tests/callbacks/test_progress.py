"""Log files get a few plain lines; terminals get bars; other processes get nothing."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from torch.utils.data import DataLoader

from atrous.callbacks import RunProgress
from atrous.data.data_module import collate
from atrous.data.loading.sampling import SampleLoader


def lines_of(
    fit: Callable[..., Any], *, terminal: bool, loader: type[DataLoader[Any]] = DataLoader, **options: Any
) -> list[str]:
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=100)
    fit([RunProgress(console=console, **options)], steps=40, loader=loader)
    return file.getvalue().splitlines()


def test_log_file_gets_plain_lines(fit: Callable[..., Any]) -> None:
    lines = lines_of(fit, terminal=False, every_n_steps=10)
    assert not any("\x1b" in line for line in lines)
    steps = [line for line in lines if "steps/s" in line]
    assert [line.split()[1] for line in steps] == ["10/40", "20/40", "30/40", "40/40"]
    assert all(re.search(r"loss \d\.\d{3}  [\d.]+ steps/s  \d:\d\d:\d\d left$", line) for line in steps)
    validations = [line for line in lines if "validation" in line]
    assert len(validations) == 20
    assert validations[0].startswith("step 2/40  validation: mIoU 0.")
    assert len(lines) == len(steps) + len(validations)


def test_long_runs_do_not_flood_a_log_file(fit: Callable[..., Any]) -> None:
    assert sum("steps/s" in line for line in lines_of(fit, terminal=False)) == 20


def test_terminal_gets_a_bar_over_the_whole_run(fit: Callable[..., Any]) -> None:
    text = "\n".join(lines_of(fit, terminal=True))
    assert "40/40" in text
    assert "validation: mIoU" in text
    assert text.count("training") < 200
    assert text.rstrip().endswith("\x1b[?25h"), "the cursor is shown again"


def test_disabled_progress_is_silent(fit: Callable[..., Any]) -> None:
    file = io.StringIO()
    progress = RunProgress(console=Console(file=file))
    progress.disable()
    fit([progress])
    progress.print("nothing")
    assert file.getvalue() == ""


def test_waiting_for_data_is_told(fit: Callable[..., Any]) -> None:
    class Slow(SampleLoader):
        seconds = 0.0

        def __init__(self, samples: list[Any], **options: Any) -> None:
            super().__init__(samples, **{**options, "collate_fn": self.slowly})

        def slowly(self, samples: list[Any]) -> Any:
            time.sleep(self.seconds)
            return collate(samples)

    found = {}
    for seconds in (0.0, 0.05):
        Slow.seconds = seconds
        lines = lines_of(fit, terminal=False, every_n_steps=10, loader=Slow)
        told = [re.search(r"waits for data ([\d.]+) % of the time$", line) for line in lines]
        shares = [float(each[1]) for each in told if each]
        assert lines[-1].startswith("waits for data ")  # of the whole run
        assert all(share > 2 for share in shares[:-1])
        found[seconds] = shares
    assert len(found[0.05]) == 5
    assert found[0.0][-1] < found[0.05][-1] < 100
