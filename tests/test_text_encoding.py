"""Text is written and read as UTF-8, whatever the machine's locale says."""

from __future__ import annotations

import ast
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from atrous.composition import exit_with_one_sentence

SOURCE = Path(__file__).resolve().parents[1] / "src"


def leaves_encoding_to_the_locale(call: ast.Call) -> bool:
    """Whether a call opens a file or reads a program's output as text without naming an encoding."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    owner = ast.unparse(call.func.value) if isinstance(call.func, ast.Attribute) else ""
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    if "encoding" in given:
        return False
    if name == "open" and owner not in ("Image", "os", "packed"):  # no text: a descriptor, a member of an archive
        place = 0 if owner else 1  # path.open(mode), open(path, mode)
        mode = given.get("mode") or (call.args[place] if len(call.args) > place else ast.Constant("r"))
        return not (isinstance(mode, ast.Constant) and "b" in str(mode.value))
    return name in ("read_text", "write_text") or (
        owner == "subprocess" and bool({"text", "universal_newlines"} & given.keys())
    )


def test_the_search_finds_what_it_is_meant_to_find() -> None:
    lines = {
        "open(p)": True, "open(p, 'w')": True, "open(p, mode='rb')": False, "p.open()": True, "p.open('r+b')": False,
        "p.open(encoding='utf-8')": False, "p.read_text()": True, "p.write_text(t)": True, "Image.open(p)": False,
        "os.open(p, 0)": False, "p.write_text(t, encoding='utf-8')": False,
        "subprocess.run(c, text=True)": True, "subprocess.run(c)": False,
    }  # fmt: skip
    for line, wanted in lines.items():
        call = ast.parse(line, mode="eval").body
        assert isinstance(call, ast.Call)
        assert leaves_encoding_to_the_locale(call) == wanted, line


def test_no_file_is_opened_in_the_encoding_of_the_locale() -> None:
    calls = [
        (path.relative_to(SOURCE), node)
        for path in sorted(SOURCE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    ]
    assert len(calls) > 1000
    assert [f"{path}: {ast.unparse(call)}" for path, call in calls if leaves_encoding_to_the_locale(call)] == []


def test_a_run_is_recorded_under_an_ascii_locale(tmp_path: Path) -> None:
    config, overrides = {"name": "Größe → ∞"}, ["name=é"]
    module = str(SOURCE / "atrous" / "reports" / "run_record.py")  # alone, without all that the package imports
    code = f"import runpy; runpy.run_path({module!r})['record_run']('run', {config!a}, {overrides!a}, '.')"
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=os.environ | locale, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text(encoding="utf-8")) == config
    assert yaml.safe_load((tmp_path / "run" / "overrides.yaml").read_text(encoding="utf-8")) == overrides


def test_entry_points_print_on_a_terminal_that_lacks_a_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    received = io.BytesIO()
    terminal = io.TextIOWrapper(received, encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", terminal)
    exit_with_one_sentence(lambda config: print("OS 16 · 3 → out"))(OmegaConf.create())
    terminal.flush()
    assert received.getvalue().decode("cp1252") == "OS 16 · 3 ? out\n"
