"""The package as users install it: a wheel in an environment of its own, used far from any checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.long]

TINY = (
    "backbone.name=test_resnet",
    "model.head.aspp_channels=8",
    "model.head.decoder_channels=8",
    "data.dataset.size=64",
    "data.dataset.lengths={train: 4, val: 2, test: 2}",
    "data.batch_size=2",
    "data.num_workers=0",
    "augment.crop_size=65",
    "trainer=cpu",
    "trainer.max_steps=2",
    "validate_every=2",
    "logger=csv",
)


def called(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ATROUS"))}
    return subprocess.run(list(map(str, words)), cwd=cwd, env=environment, capture_output=True, text=True, timeout=250)


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the files of the checkout, without a network."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(repository / name, source)
    for name in ("src", "conf"):
        shutil.copytree(repository / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    done = called(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source, cwd=folder)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the commands of an environment that sees the installed dependencies, but not the checkout."""
    folder = tmp_path_factory.mktemp("environment")
    assert called(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder).returncode == 0
    packages = next(folder.glob("lib/python*/site-packages"))
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", folder / "bin" / "python")
    done = called(*pip, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "bin"


def test_it_brings_the_package_and_its_configuration(wheel: Path, repository: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for folder, place in (("conf", "atrous/conf"), ("src/atrous", "atrous")):
        kinds = (".yaml", ".py", ".typed", ".cpp", ".h")
        files = [path for path in (repository / folder).rglob("*") if path.suffix in kinds]
        assert len(files) > 50
        assert {f"{place}/{path.relative_to(repository / folder)}" for path in files} <= names
    others = {name for name in names if not name.startswith(("atrous/", "atrous-"))}
    assert others == {"hydra_plugins/atrous_search.py"}, "where Hydra looks for sweepers"


def test_the_command_trains_scores_and_predicts_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    here = tmp_path / "work"
    trained = called(installed / "atrous", "train", "backbone=timm", *TINY, cwd=here)
    assert trained.returncode == 0, trained.stderr
    assert "step 2/2" in trained.stdout
    (run,) = (here / "logs" / "train" / "deeplabv3plus_timm_shapes").iterdir()
    assert (run / "checkpoints" / "last.ckpt").is_file()
    scored = called(installed / "atrous", "evaluate", f"ckpt_path={run}", "trainer=cpu", cwd=here)
    assert scored.returncode == 0, scored.stderr
    assert "mIoU" in scored.stdout
    went_on = called(installed / "atrous", "train", "ckpt_path=last", "name=deeplabv3plus_timm_shapes", cwd=here)
    assert went_on.returncode == 0, went_on.stderr
    program = "import atrous; print(atrous.load(__import__('sys').argv[1])[1].label_space.name, atrous.__file__)"
    said = called(installed / "python", "-c", program, run, cwd=here)
    assert said.stdout.split()[0] == "shapes"
    assert Path(said.stdout.split()[1]).is_relative_to(installed.parent)


def test_two_processes_of_the_command_start(installed: Path, tmp_path: Path) -> None:
    """Lightning starts the second one by the program's file and arguments."""
    trained = called(
        installed / "atrous", "train", "backbone=timm", *TINY, "trainer=ddp_cpu", "data.batch_size=4", cwd=tmp_path
    )
    assert trained.returncode == 0, trained.stderr
    assert "step 2/2" in trained.stdout


def test_mistakes_are_one_sentence(installed: Path, tmp_path: Path) -> None:
    unknown = called(installed / "atrous", "trane", cwd=tmp_path)
    assert unknown.returncode == 2
    commands = "train, evaluate, predict, prepare, search, export, demo, sweep, figures, benchmark"
    assert unknown.stderr == f"error: there is no command 'trane'; choose one of {commands}\n"
    refused = called(installed / "atrous", "train", "validate_every=-1", cwd=tmp_path)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "validate_every=-1" in refused.stderr
    usage = called(installed / "atrous", cwd=tmp_path)
    assert usage.returncode == 0
    assert usage.stdout.startswith("usage: atrous <command>")
