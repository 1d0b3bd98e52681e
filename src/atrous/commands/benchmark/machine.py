"""The machine that a benchmark runs on, in words and in two figures of the same run."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import Any

import torch

from atrous.machine import describe as describe_machine
from atrous.machine import lines as machine_lines
from atrous.models.atrous_convolution.processor import BF16
from atrous.places import CHECKOUT


def describe() -> dict[str, Any]:
    """The machine and the checkout's commit, as plain values."""
    return {**describe_machine(), "commit": _commit()}


def measure() -> dict[str, float]:
    """Speed of a matrix product and of copying memory.

    Returns:
        ``float32_gflops`` and ``bfloat16_gflops`` of the product of two matrices of 1024 rows (in bf16 of 256 rows
        where it runs in plain loops), and ``stream_gbs``, gigabytes read and written a second.
    """
    large = torch.rand(1024, 1024)
    half = (large if BF16 else large[:256, :256]).bfloat16()
    source = torch.rand(2**25)  # 128 MB: larger than a cache
    target = torch.empty_like(source)
    return {
        "float32_gflops": 2 * 1024**3 / _fastest(lambda: large @ large) / 1e9,
        "bfloat16_gflops": 2 * len(half) ** 3 / _fastest(lambda: half @ half) / 1e9,
        "stream_gbs": 2 * source.nbytes / _fastest(lambda: target.copy_(source)) / 1e9,
    }


def lines(machine: dict[str, Any]) -> list[str]:
    """The machine, and its figures where they were measured, to be printed above a table."""
    said = machine_lines(machine)
    if "stream_gbs" in machine:
        said.append(
            f"matrix product {machine['float32_gflops']:.0f} GFLOP/s in fp32, {machine['bfloat16_gflops']:.0f} in "
            f"bf16; memory {machine['stream_gbs']:.0f} GB/s"
        )
    return said


def _fastest(work: Callable[[], object], repetitions: int = 9) -> float:
    """Seconds of the fastest repetition."""
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def _commit() -> str | None:
    """The checkout's commit, marked if files differ from it; ``None`` for an installed package."""
    if CHECKOUT is None:
        return None
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        return f"{commit}+" if _git("status", "--porcelain", "--untracked-files=no") else commit
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(CHECKOUT), *arguments], check=True, capture_output=True, text=True, encoding="utf-8"
    )
    return done.stdout.strip()
