"""What some people cannot use on a page, found by axe-core."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import axe_playwright_python
from playwright.sync_api import Page

_AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


class Obstacle(NamedTuple):
    """A violation of a rule, where it first occurs.

    Attributes:
        rule: Its name.
        impact: ``minor``, ``moderate``, ``serious`` or ``critical``.
        html: The element.
    """

    rule: str
    impact: str
    html: str


def obstacles(page: Page) -> list[Obstacle]:
    """All violations on a page."""
    page.evaluate(_AXE)
    found = page.evaluate("axe.run()")["violations"]
    return [Obstacle(each["id"], each["impact"], each["nodes"][0]["html"]) for each in found]
