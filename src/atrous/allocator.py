"""Memory that a network frees and asks for again a moment later."""

from __future__ import annotations

import ctypes
import os
import sys

_TRIM_THRESHOLD = -1  # from malloc.h
_MMAP_MAX = -4
_LARGEST = 2**31 - 1


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
