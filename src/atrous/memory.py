"""Memory of the machine and of processes: what is free, what is taken, and what is freed to be taken again."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import resource
import sys
from pathlib import Path

_TRIM_THRESHOLD = -1  # from malloc.h
_MMAP_MAX = -4
_LARGEST = 2**31 - 1
_MEMINFO = Path("/proc/meminfo")
_CGROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)


def free_memory() -> int:
    """Bytes that this process can still take: what the system says it has, or the container if that is less.

    Where the system does not say, it is the whole memory.
    """
    free = _kilobytes(_MEMINFO, "MemAvailable")
    if free is None:
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit, used in _CGROUPS:
        if limit.is_file() and used.is_file() and (most := limit.read_text(encoding="utf-8").strip()).isdigit():
            free = min(free, int(most) - int(used.read_text(encoding="utf-8")))
    return max(0, free)


def resident_memory(process: int) -> int | None:
    """Bytes that a process has in memory now; ``None`` where the system does not say, or once it has ended."""
    return _kilobytes(Path(f"/proc/{process}/status"), "VmRSS")


def peak_memory() -> int:
    """The most bytes that this process has had in memory at once."""
    # what a program was started by counts for the system's own figure
    peak = _kilobytes(Path("/proc/self/status"), "VmHWM")
    if peak is not None:
        return peak
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else 1024 * largest


def forget_peak_memory() -> bool:
    """Give freed memory back to the system and let ``peak_memory`` begin at what is left.

    Returns:
        Whether it was done: on Linux, where the process may write to its own entry in ``/proc``.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # man 5 proc
    except OSError:
        return False
    return True


def keep_freed_memory() -> bool:
    """Let the C library keep what is freed instead of giving it back to the system.

    Otherwise every large map is new memory, which the system has to clear page by page at every step. The process
    is as large as at its peak until it ends. A user who has set the C library's own variables (``MALLOC_...``) or
    preloads another allocator is left alone.

    Returns:
        Whether it was done: with glibc on Linux.
    """
    decided = any(name.startswith("MALLOC_") for name in os.environ) or "LD_PRELOAD" in os.environ
    if decided or not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, _LARGEST))


def _kilobytes(file: Path, name: str) -> int | None:
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB$", file.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return None
    return None if found is None else 1024 * int(found[1])
