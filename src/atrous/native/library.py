"""C++ files of ours, compiled once for the processor they run on."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

_HEADERS = Path(__file__).parent
"""Where files that sources include lie."""
_COMPILERS = ("c++", "g++", "clang++")
_FLAGS = ("-std=c++17", "-O3", "-march=native", "-fPIC", "-shared")
_TURNED_OFF = "ATROUS_NATIVE"


def load_native(source: Path) -> ctypes.CDLL | None:
    """Compile a file, unless that was done before, and load it.

    The library is kept in ``$XDG_CACHE_HOME/atrous`` (``~/.cache/atrous``) under a name that depends on source,
    compiler and processor, so it is never used after one of them has changed. Set ``ATROUS_NATIVE=0`` to use PyTorch's
    operators alone, and ``CXX`` to name the compiler.

    Args:
        source: A file with functions of C linkage that includes no other files than the headers of this folder.

    Returns:
        The library; ``None`` where there is no compiler, it fails (with a warning), or native code is turned off.
    """
    compiler = _compiler()
    if compiler is None or os.environ.get(_TURNED_OFF) == "0":
        return None
    try:
        library = _cache() / f"{source.stem}-{_fingerprint(source, compiler)}.so"
        if not _is_whole(library):
            with _building_in(library.parent):
                if not _is_whole(library):  # another process has built it in the meantime
                    _compile(source, compiler, library)
        return ctypes.CDLL(str(library))
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        reason = next((line for line in said.splitlines() if "error" in line), said.strip().splitlines()[0])
        warnings.warn(
            f"{source.name} could not be compiled by {compiler} ({reason}): PyTorch's operators are used, which are "
            f"slower; set {_TURNED_OFF}=0 to do so without this warning",
            stacklevel=2,
        )
        return None


def _is_whole(library: Path) -> bool:
    """Whether it is there as it was built: half a library may end the process when it is used."""
    with contextlib.suppress(OSError):
        return _digest_of(library).read_text(encoding="utf-8") == _digest(library)
    return False


def _digest_of(library: Path) -> Path:
    return library.with_suffix(".sha256")


def _digest(library: Path) -> str:
    return hashlib.sha256(library.read_bytes()).hexdigest()


@contextlib.contextmanager
def _building_in(folder: Path) -> Iterator[None]:
    """Let one process at a time build in a folder; the lock ends with the process."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks: both build, and one replaces the other's
            fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def _compiler() -> str | None:
    named = os.environ.get("CXX")
    return next(filter(None, map(shutil.which, [named] if named else _COMPILERS)), None)


def _cache() -> Path:
    """The user's cache, or a folder of this process where that cannot be written."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "atrous"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="atrous-"))


def _fingerprint(source: Path, compiler: str) -> str:
    version = subprocess.run(
        [compiler, "--version"], check=True, capture_output=True, text=True, encoding="utf-8", timeout=60
    ).stdout
    files = (source, *sorted(_HEADERS.glob("*.h")))
    about = (*(file.read_text(encoding="utf-8") for file in files), version, *_FLAGS, _processor())
    return hashlib.sha256("\0".join(about).encode()).hexdigest()[:16]


def _processor() -> str:
    """What instructions the processor has; the machine's name where that is not known."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        features = next(line for line in lines if line.lower().startswith(("flags", "features")))
    except (OSError, StopIteration):
        features = platform.node()
    return f"{platform.machine()} {features}"


def _compile(source: Path, compiler: str, library: Path) -> None:
    """Compile beside the target and rename, so that another process never loads half a file."""
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        built = Path(folder) / library.name
        flags = (*_FLAGS, "-I", str(_HEADERS))
        try:
            _run([compiler, *flags, "-fopenmp", str(source), "-o", str(built)])
        except subprocess.CalledProcessError:  # a compiler without OpenMP: one thread
            _run([compiler, *flags, str(source), "-o", str(built)])
        digest = Path(folder) / "digest"
        digest.write_text(_digest(built), encoding="utf-8")
        os.replace(built, library)
        os.replace(digest, _digest_of(library))


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, encoding="utf-8", timeout=300)
