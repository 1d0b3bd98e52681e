"""Compiling: once, never half, and never in the way of a user without a compiler."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from atrous.native import library as native
from atrous.native import load_native

needs_compiler = pytest.mark.skipif(native._compiler() is None, reason="no compiler")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("ATROUS_NATIVE", raising=False)
    return tmp_path / "cache" / "atrous"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "answer.cpp"
    path.write_text('extern "C" int answer() { return 42; }\n', encoding="utf-8")
    return path


@needs_compiler
def test_compiled_once_and_again_after_a_change(source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = load_native(source)
    assert library is not None
    assert library.answer() == 42
    assert len(list(cache.iterdir())) == 2  # nothing but the library and its checksum is left
    with monkeypatch.context() as patch:
        patch.setattr(native, "_compile", lambda *arguments: pytest.fail("compiled again"))
        assert load_native(source) is not None
    source.write_text('extern "C" int answer() { return 43; }\n', encoding="utf-8")
    library = load_native(source)
    assert library is not None
    assert library.answer() == 43
    monkeypatch.setattr(native, "_processor", lambda: "another one")
    load_native(source)
    assert len(list(cache.glob("*.so"))) == 3


@needs_compiler
def test_a_compiler_that_fails_is_one_warning(source: Path, cache: Path) -> None:
    source.write_text("this is no C++\n", encoding="utf-8")
    with pytest.warns(UserWarning, match=r"answer\.cpp could not be compiled by .* \(.*error.*\): PyTorch's operators"):
        assert load_native(source) is None
    assert list(cache.iterdir()) == []


@needs_compiler
def test_a_compiler_without_openmp(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = native._run

    def without_openmp(command: list[str]) -> None:
        if "-fopenmp" in command:
            raise subprocess.CalledProcessError(1, command)
        run(command)

    monkeypatch.setattr(native, "_run", without_openmp)
    library = load_native(source)
    assert library is not None
    assert library.answer() == 42


def test_without_a_compiler_nothing_is_said(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_native(source) is None


def test_turned_off(source: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATROUS_NATIVE", "0")
    assert load_native(source) is None
    assert not cache.exists()


@needs_compiler
@pytest.mark.parametrize("left", [0, 10, 4096, -1])
def test_a_damaged_library_is_compiled_again(source: Path, cache: Path, left: int) -> None:
    """Cut off anywhere, even where the rest still loads and ends the process later."""
    load_native(source)
    (path,) = cache.glob("*.so")
    whole = path.read_bytes()
    path.unlink()  # the loaded one stays as it is
    path.write_bytes(whole[:left] if left >= 0 else whole[:-1] + b"x")
    code = "import pathlib, sys, atrous.native as n; print(n.load_native(pathlib.Path(sys.argv[1])).answer())"
    said = subprocess.run([sys.executable, "-c", code, str(source)], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "42"
    assert path.read_bytes() == whole


@needs_compiler
def test_a_cache_that_cannot_be_written(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    library = load_native(source)
    assert isinstance(library, ctypes.CDLL)
    shutil.rmtree(Path(library._name).parent)


@needs_compiler
def test_two_processes_at_once_compile_once(source: Path, cache: Path, tmp_path: Path) -> None:
    counting = tmp_path / "compiler"
    compiler = native._compiler()
    counting.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] || {{ echo x >> {tmp_path}/calls; sleep 1; }}\nexec {compiler} "$@"\n'
    )
    counting.chmod(0o755)
    code = "import pathlib, sys, atrous.native as n; print(n.load_native(pathlib.Path(sys.argv[1])).answer())"
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(source)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "CXX": str(counting)},
        )
        for _ in range(2)
    ]
    assert [process.communicate(timeout=120)[0].strip() for process in both] == ["42", "42"]
    assert (tmp_path / "calls").read_text().count("x") == 1
    assert len(list(cache.iterdir())) == 2
