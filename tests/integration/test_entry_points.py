"""The scripts of ``src/`` and the command of the package are the same program."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from atrous.__main__ import COMMANDS
from atrous.reports.run_record import git_commit

pytestmark = pytest.mark.integration


def test_every_script_is_a_command(repository: Path) -> None:
    assert {path.stem for path in (repository / "src").glob("*.py")} == set(COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_script_is_known_to_hydra_by_its_name(
    name: str, command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    shown = command(f"{name}.py", "--cfg", "hydra", "--package", "hydra.job", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert f"\nname: {name}\n" in f"\n{shown.stdout}"


def test_an_installed_package_records_its_version() -> None:
    """The commit of whatever checkout the user works in would be another program's."""
    assert git_commit(None).startswith("atrous 0.")
