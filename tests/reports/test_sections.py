"""Parts of a page that commands write."""

from __future__ import annotations

from pathlib import Path

import pytest

from atrous.reports.sections import renew_section


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "claims.md"
    path.write_text("# Claims\n\nBefore.\n\n<!-- a -->\nold\n<!-- end of a -->\n\nAfter.\n", encoding="utf-8")
    return path


def test_a_part_takes_the_place_of_the_old_one(page: Path) -> None:
    renew_section(page, "a", "| new \\1 |\n", alt="A figure")
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Claims\n\nBefore.\n\n<!-- a -->\n")
    assert text.endswith("| new \\1 |\n<!-- end of a -->\n\nAfter.\n")
    assert "old" not in text
    assert 'srcset="claims/a_dark.svg"' in text
    assert '<img src="claims/a.svg" alt="A figure">' in text


def test_twice_is_once(page: Path) -> None:
    renew_section(page, "a", "| new |\n", alt="A figure")
    once = page.read_text(encoding="utf-8")
    renew_section(page, "a", "| new |\n", alt="A figure")
    assert page.read_text(encoding="utf-8") == once


def test_a_part_without_a_place_goes_to_the_end(page: Path) -> None:
    before = page.read_text(encoding="utf-8")
    renew_section(page, "b", "text\n", alt="B")
    text = page.read_text(encoding="utf-8")
    assert text.startswith(before)
    assert text.endswith("text\n<!-- end of b -->\n")
