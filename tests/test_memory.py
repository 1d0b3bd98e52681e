"""Memory of the machine and of processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from atrous import memory

ARENA = """
import ctypes
from atrous.memory import keep_freed_memory

class Information(ctypes.Structure):
    _fields_ = [(f"field_{number}", ctypes.c_size_t) for number in range(10)]  # the first is the size of the heap

done = keep_freed_memory()
library, block = ctypes.CDLL(None), ctypes.c_void_p()
library.posix_memalign(ctypes.byref(block), ctypes.c_size_t(64), ctypes.c_size_t(2**28))  # as PyTorch's tensors
library.free(block)  # at once
mallinfo = getattr(library, "mallinfo2", None)
if mallinfo is not None:
    mallinfo.restype = Information
print(done, 0 if mallinfo is None else mallinfo().field_0)
"""


def test_what_is_free_fits_the_machine() -> None:
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < memory.free_memory() <= whole


@pytest.mark.parametrize(
    ("limit", "used", "free"),
    [("max", 0, 8 * 2**30), (2**40, 0, 8 * 2**30), (6 * 2**30, 2**30, 5 * 2**30), (2**30, 2**31, 0)],
)
def test_a_container_may_have_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: object, used: int, free: int
) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  16777216 kB\nMemAvailable:  8388608 kB\n")
    (tmp_path / "max").write_text(f"{limit}\n")
    (tmp_path / "current").write_text(f"{used}\n")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_CGROUPS", ((tmp_path / "max", tmp_path / "current"), (tmp_path / "a", tmp_path)))
    assert memory.free_memory() == free


def test_a_peak_stays_after_memory_is_freed() -> None:
    before = memory.peak_memory()
    block = bytearray(before)  # zeros, so all of it is written
    now = memory.resident_memory(os.getpid())
    del block
    assert memory.peak_memory() >= 1.5 * before
    assert now is None or now >= before
    assert memory.resident_memory(2**22 + 1) is None


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


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak cannot be forgotten elsewhere")
def test_a_peak_is_forgotten() -> None:
    large = bytearray(300_000_000)
    large[::4096] = b"1" * len(large[::4096])
    high = memory.peak_memory()
    del large
    assert memory.peak_memory() == high
    assert memory.forget_peak_memory()
    assert memory.peak_memory() < high - 250_000_000
