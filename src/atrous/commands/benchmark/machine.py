"""The machine that a benchmark runs on, in words and in two figures of the same run."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from atrous.models.atrous_convolution.processor import BF16
from atrous.places import CHECKOUT

_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "asimd", "bf16", "sve")
"""Instructions that decide how fast a convolution is."""

_LIBRARIES = ("torch", "torchvision", "timm", "segmentation-models-pytorch", "transformers", "lightning", "numpy")


def describe() -> dict[str, Any]:
    """Processor, instructions, memory, graphics card, versions and commit, as plain values."""
    return {
        "processor": _processor(),
        "instructions": [flag for flag in _FLAGS if flag in _flags()],
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(_memory() / 2**30),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "versions": {name: found for name in _LIBRARIES if (found := _version(name)) is not None},
        "commit": _commit(),
    }


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
    said = [
        f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads, {machine['memory_gb']} GB; "
        f"{' '.join(machine['instructions']) or 'no vector instructions known'}; {machine['gpu'] or 'no GPU'}",
        ", ".join(f"{name} {number}" for name, number in {"Python": machine["python"], **machine["versions"]}.items()),
    ]
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


def _processor() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", _cpuinfo(), re.MULTILINE)
    return found.group(1) if found else platform.processor() or platform.machine()


def _flags() -> set[str]:
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", _cpuinfo(), re.MULTILINE)
    return set(found.group(1).split()) if found else set()


def _cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


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
