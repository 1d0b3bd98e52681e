"""Work of several processes: in order, with the error of one, and none of them outlives the one that waits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from atrous.data.preparation import parallel
from atrous.data.preparation.parallel import in_parallel
from atrous.errors import AtrousError


def square(number: int) -> int:
    if number == 41:
        raise AtrousError("41 is refused")
    if number == 42:
        os.kill(os.getpid(), signal.SIGKILL)
    return number**2


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_results_are_in_order(workers: int) -> None:
    assert in_parallel(square, range(40), "squaring", workers=workers) == [number**2 for number in range(40)]
    assert in_parallel(square, [], "squaring", workers=workers) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_ends_it(workers: int) -> None:
    with pytest.raises(AtrousError, match="41 is refused"):
        in_parallel(square, [1, 41, *range(30)], "squaring", workers=workers)


def test_a_process_that_was_killed_is_one_sentence() -> None:
    with pytest.raises(AtrousError, match="a process of the preparation was killed"):
        in_parallel(square, [1, 42, *range(30)], "squaring", workers=2)


@pytest.mark.slow
def test_no_process_is_left_behind(tmp_path: Path) -> None:
    module = tmp_path / "waiting.py"
    module.write_text(
        "import os, sys, time\n"
        "sys.path.append(sys.argv[1])  # the module alone: the packages around it import PyTorch for seconds\n"
        "from parallel import in_parallel\n"
        "def wait(number):\n"
        "    open(f'{os.getpid()}.pid', 'w').close()\n"
        "    time.sleep(100)\n"
        "if __name__ == '__main__':\n"
        "    in_parallel(wait, range(4), 'waiting', workers=2)\n"
    )
    process = subprocess.Popen([sys.executable, str(module), str(Path(parallel.__file__).parent)], cwd=tmp_path)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("*.pid"))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.wait()
    pids = [int(path.stem) for path in tmp_path.glob("*.pid")]
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.1)
