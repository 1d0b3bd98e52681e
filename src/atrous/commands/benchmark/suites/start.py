"""How long a command takes to begin: to its help, and through its first training step."""

from __future__ import annotations

import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from atrous.errors import AtrousError, require_range
from atrous.terminal import say, track

LIBRARIES = "import lightning.pytorch, timm"
"""What a training command cannot do without; the peer of all others."""


def run(console: Console, *, commands: Mapping[str, str], rounds: int = 5) -> dict[str, Any]:
    """Time commands as processes of their own, in turn, and print a table.

    The ratio is that of the processor time of importing Lightning and timm alone, so it hardly depends on the machine.

    Args:
        console: Where the table goes.
        commands: What follows ``atrous`` on a command line, by the name of its row; ``{logs}`` stands for a folder
            that is removed afterward.
        rounds: How often each has its turn, after one that does not count.

    Returns:
        Seconds of wall-clock and of processor time of every command.

    Raises:
        AtrousError: An option is impossible, or a command fails.
    """
    require_range("start.rounds", rounds, at_least=1)
    peer = f"python -c {LIBRARIES!r}"
    measured: dict[str, list[tuple[float, float]]] = {peer: [], **{case: [] for case in commands}}
    with tempfile.TemporaryDirectory() as logs:
        lines = {case: ["-m", "atrous", *shlex.split(line.replace("{logs}", logs))] for case, line in commands.items()}
        lines[peer] = ["-c", LIBRARIES]
        turns = [(number, case) for number in range(rounds + 1) for case in measured]
        for number, case in track(turns, "processes", total=len(turns), console=console):
            times = _time(case, lines[case])
            if number > 0:
                measured[case].append(times)
    medians = {
        case: [statistics.median(values) for values in zip(*times, strict=True)] for case, times in measured.items()
    }
    table = Table("", "seconds", "of processor time", "ratio", title=f"processes, median of {rounds}")
    rows = []
    for case, (seconds, processor) in medians.items():
        ratio = medians[peer][1] / processor
        table.add_row(case, f"{seconds:.2f}", f"{processor:.2f}", f"{ratio:.2f}x")
        rows.append({"case": case, "seconds": seconds, "processor_seconds": processor, "ratio": ratio})
    console.print(table)
    say(console, f"ratio: processor time of {peer} over that of the command")
    return {"suite": "start", "rows": rows}


def _time(case: str, arguments: Sequence[str]) -> tuple[float, float]:
    """Wall-clock seconds, and processor seconds of the process and its children."""
    start = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen([sys.executable, *arguments], stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - start
        if process.returncode:
            output.seek(0)
            said = output.read().decode(errors="replace").strip().splitlines() or ["nothing"]
            raise AtrousError(f"start.commands: {case!r} failed with status {process.returncode}: {said[-1]}")
    return seconds, usage.ru_utime + usage.ru_stime
