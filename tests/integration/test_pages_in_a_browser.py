"""Pages as people meet them: in Chromium, on a phone and on a desk, light and dark, on paper, and without a mouse."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page
from tests.integration.browsing import obstacles
from tests.reports.pages.example import write_example

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SCREENS = {"phone": {"width": 390, "height": 844}, "desk": {"width": 1280, "height": 900}}


@pytest.fixture
def opened(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open a file; whatever it fetches or complains about is a failure."""
    pages = []

    def open_page(path: Path, screen: str = "desk", colors: Any = "light") -> Page:
        context = browser.new_context(viewport=SCREENS[screen], color_scheme=colors)
        page = context.new_page()
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: complaints.append(request.url) if request.url.startswith("http") else None)
        page.goto(path.as_uri())
        pages.append((context, complaints))
        return page

    yield open_page
    for context, complaints in pages:
        context.close()
        assert complaints == []


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_example(tmp_path_factory.mktemp("run"))[0]


@pytest.mark.parametrize("colors", ["light", "dark"])
@pytest.mark.parametrize("screen", SCREENS)
def test_everybody_can_use_it(screen: str, colors: str, page_file: Path, opened: Callable[..., Page]) -> None:
    page = opened(page_file, screen, colors)
    page.locator("details").evaluate_all("all => all.forEach(each => each.open = true)")
    assert obstacles(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page is wider than the screen"
    shown = page.locator("img").evaluate_all("all => all.map(each => each.naturalWidth)")
    assert len(shown) > 10
    assert min(shown) > 0


def test_pictures_follow_the_colors_of_the_screen(page_file: Path, opened: Callable[..., Page]) -> None:
    sources = {
        colors: opened(page_file, "desk", colors).locator("#curves img").evaluate("each => each.currentSrc")
        for colors in ("light", "dark")
    }
    assert sources["light"] != sources["dark"]


def test_tables_are_sorted_from_the_keyboard(page_file: Path, opened: Callable[..., Page]) -> None:
    page = opened(page_file)
    names = page.locator("#classes tbody th")
    button = page.get_by_role("button", name="IoU %")
    button.focus()
    page.keyboard.press("Enter")
    assert names.all_inner_texts() == ["fifth", "background", "<script>alert(1)</script>", 'a & "b"', "never there"]
    assert page.locator("th", has=button).get_attribute("aria-sort") == "descending"
    page.keyboard.press("Enter")
    assert names.all_inner_texts()[-1] == "fifth"
    page.get_by_role("button", name="class").press("Enter")
    assert page.locator('[aria-sort="descending"]').count() == 1


def test_the_confusion_matrix_keeps_its_diagonal_in_every_order(page_file: Path, opened: Callable[..., Page]) -> None:
    page = opened(page_file)
    choice = page.get_by_label("Order of the classes")

    def matrix() -> tuple[list[str], list[str], list[str]]:
        heads = page.locator("#confusion-matrix thead th").all_inner_texts()
        rows = page.locator("#confusion-matrix tbody th").all_inner_texts()
        cells = page.locator("#confusion-matrix tbody tr").evaluate_all(
            "rows => rows.map((row, index) => row.cells[index + 1].textContent)"
        )
        return heads, rows, cells

    before = matrix()
    assert before[2] == ["90", "60", "75", "", "90"]
    for order, cells in {
        "most pixels first": ["90", "60", "90", "75", ""],
        "worst recognized first": ["", "60", "75", "90", "90"],
    }.items():
        choice.select_option(label=order)
        heads, rows, diagonal = matrix()
        assert heads == rows
        assert diagonal == cells
    choice.select_option(label="as in the data set")
    assert matrix() == before


def test_on_paper_everything_is_light_and_nothing_is_a_button(page_file: Path, opened: Callable[..., Page]) -> None:
    page = opened(page_file, "desk", "dark")
    page.emulate_media(media="print", color_scheme="light")
    assert not page.locator("nav").is_visible()
    assert not page.get_by_role("button", name="Copy").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.pdf().startswith(b"%PDF")


def test_the_page_of_a_real_run(trained: Any, opened: Callable[..., Page]) -> None:
    page = opened(trained.folder / "report.html", "phone", "dark")
    assert page.locator("#images .image").count() > 0
    assert "python src/train.py" in page.locator("#repeat").inner_text()
    assert obstacles(page) == []
