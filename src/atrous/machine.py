"""The machine that something runs on: processor, memory, graphics card and versions."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "asimd", "bf16", "sve")
"""Instructions that decide how fast a convolution is."""

_LIBRARIES = ("torch", "torchvision", "timm", "segmentation-models-pytorch", "transformers", "lightning", "numpy")


def describe() -> dict[str, Any]:
    """Processor, instructions, memory, graphics card and versions, as plain values."""
    return {
        "processor": _processor(),
        "instructions": [flag for flag in _FLAGS if flag in _flags()],
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(_memory() / 2**30),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "versions": {name: found for name in _LIBRARIES if (found := _version(name)) is not None},
    }


def lines(machine: dict[str, Any]) -> list[str]:
    """The machine in two lines of text."""
    return [
        f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads, {machine['memory_gb']} GB; "
        f"{' '.join(machine['instructions']) or 'no vector instructions known'}; {machine['gpu'] or 'no GPU'}",
        ", ".join(f"{name} {number}" for name, number in {"Python": machine["python"], **machine["versions"]}.items()),
    ]


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
