"""What people read first: short where it should be, and true about the rest of the repository."""

from __future__ import annotations

import importlib
import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from atrous.commands.figures import drawings
from atrous.reports.sections import section
from atrous.reports.sweeps import SweepResult, sweep_markdown

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md"))]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_readme_ends_within_120_lines() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120
    first_screen = "\n".join(lines[:20])
    assert "docs/demo.png" in first_screen
    assert re.findall(r"^make (\S+)", first_screen, flags=re.MULTILINE) == ["demo", "test"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)#]+)\)", text) + re.findall(r'(?:src|srcset)="([^"]+)"', text)
    near = [target for target in targets if "://" not in target]
    assert [target for target in near if not (page.parent / target).exists()] == []


def test_every_figure_is_on_its_page_with_what_it_shows() -> None:
    """The first line of its module is what those read who cannot see it."""
    page = (ROOT / "docs" / "figures.md").read_text(encoding="utf-8")
    shown = dict(re.findall(r'<img src="figures/(\w+)\.svg" alt="([^"]+)">', page))
    assert set(shown) == {path.stem for path in (ROOT / "docs" / "figures").glob("*.svg")} - {
        path.stem for path in (ROOT / "docs" / "figures").glob("*_dark.svg")
    }
    for name, said in shown.items():
        module = importlib.import_module(f"{drawings.__name__}.{name}")
        assert said == (module.__doc__ or "").splitlines()[0]


def test_tables_of_claims_are_what_was_measured() -> None:
    """Numbers are kept beside the figures, and the page has what they say."""
    page = ROOT / "docs" / "claims.md"
    text = page.read_text(encoding="utf-8")
    kept = sorted((ROOT / "docs" / "claims").glob("*.json"))
    assert set(re.findall(r"<!-- (\w+) -->", text)) == {path.stem for path in kept}
    for path in kept:
        result = SweepResult.from_dict(json.loads(path.read_text(encoding="utf-8")))
        assert section(page, result.name, sweep_markdown(result), alt=result.question) in text, path.name


def test_files_that_pages_name_exist() -> None:
    """``src/...``, ``tests/...`` and ``conf/...`` in code marks; generated names and patterns have a sign in them."""
    seen = 0
    for page in PAGES:
        for name in re.findall(r"`((?:src|tests|conf|docs)/[\w/.-]+)`", page.read_text(encoding="utf-8")):
            assert (ROOT / name).exists() or page.name == "extending.md", f"{page.name}: {name}"
            seen += 1
    assert seen > 10


def test_the_python_names_of_pages_exist() -> None:
    """Those of ``UPGRADING.md`` in the column of today, and those of all other pages."""
    names = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if page.name == "UPGRADING.md":
            text = "\n".join(line.split("|")[2] for line in text.splitlines() if line.count("|") > 2)
        names |= set(re.findall(r"`(atrous(?:\.\w+)+)[`(]", text)) - {"atrous.yaml"}  # a file
    assert len(names) > 10
    for name in names:
        package, _, last = name.rpartition(".")
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            assert hasattr(importlib.import_module(package), last), name


def test_rooms_are_drawn_as_they_are() -> None:
    """Every room of ``src/atrous`` is in the picture, and nothing else."""
    picture = (ROOT / "docs" / "rooms.svg").read_text(encoding="utf-8")
    drawn = re.findall(r'class="room"[^>]*>(\w+)<', picture)
    there = [
        path for path in (ROOT / "src" / "atrous").iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()
    ]
    assert sorted(drawn) == sorted({path.stem for path in there} - {"__init__", "__main__"})


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    papers = {reference["notes"].removeprefix("arXiv ") for reference in citation["references"]}
    assert {"1412.7062", "1606.00915", "1706.05587", "1802.02611", "1702.08502", "1903.02120"} <= papers


def test_continuous_integration_covers_every_python() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    (job,) = workflow["jobs"].values()
    supported = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)]
    assert job["strategy"]["matrix"]["python"] == supported == ["3.11", "3.12", "3.13"]
    assert any(step.get("run") == "bash .ci/run" for step in job["steps"])
    for form in (ROOT / ".github" / "ISSUE_TEMPLATE").iterdir():
        assert {"name", "description", "body"} <= yaml.safe_load(form.read_text(encoding="utf-8")).keys()
