"""Freed memory stays with the process, unless the user has decided otherwise."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

ARENA = """
import ctypes, torch
from atrous.allocator import keep_freed_memory

class Information(ctypes.Structure):
    _fields_ = [(f"field_{number}", ctypes.c_size_t) for number in range(10)]  # the first is the size of the heap

done = keep_freed_memory()
torch.ones(2**26)  # 256 MB, freed at once
mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
if mallinfo is not None:
    mallinfo.restype = Information
print(done, 0 if mallinfo is None else mallinfo().field_0)
"""


def heap(**environment: str) -> tuple[bool, int]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "LD_PRELOAD"))}
    command = [sys.executable, "-c", ARENA]
    done = subprocess.run(
        command, env={**kept, **environment}, capture_output=True, text=True, encoding="utf-8", check=True
    )
    said, size = done.stdout.split()
    return said == "True", int(size)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is on Linux")
def test_memory_is_kept() -> None:
    done, size = heap()
    if not done or not size:
        pytest.skip("another C library, or an older one")
    assert size >= 2**28
    for decided in ({"MALLOC_ARENA_MAX": "4"}, {"LD_PRELOAD": ""}):
        done, size = heap(**decided)
        assert not done
        assert size < 2**28
