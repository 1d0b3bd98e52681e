"""One console and one bar: plain lines in a log file, bars in a terminal, and items that pass through unchanged."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from atrous.terminal import StageProgress, open_console, say, track


def console(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=100)


def text_of(shown: Console) -> str:
    assert isinstance(shown.file, io.StringIO)
    return shown.file.getvalue()


@pytest.mark.parametrize(
    ("total", "lines", "counts"),
    [
        (20, 10, [2, 4, 6, 8, 10, 12, 14, 16, 18, 20]),
        (7, 3, [3, 6, 7]),
        (3, 10, [1, 2, 3]),
        (50, 1, [50]),
        (0, 10, []),
    ],
)
def test_a_log_file_gets_a_few_lines_and_the_last(total: int, lines: int, counts: list[int]) -> None:
    shown = console(terminal=False)
    assert list(track(range(total), "counting", total=total, console=shown, lines=lines)) == list(range(total))
    assert text_of(shown).splitlines() == [f"counting: {count}/{total}" for count in counts]


def test_a_terminal_gets_a_bar_with_a_note() -> None:
    shown = console(terminal=True)
    items = track(range(5), "counting", total=5, console=shown, note=lambda item: f"{item} so far")
    assert list(items) == list(range(5))
    assert "5/5" in text_of(shown)
    assert "4 so far" in text_of(shown)
    assert text_of(shown).rstrip().endswith("\x1b[?25h"), "the cursor is shown again"


def test_every_stage_has_its_bar_or_its_line() -> None:
    for terminal in (False, True):
        shown = console(terminal=terminal)
        with StageProgress(shown, 3, prefix="fitting: ") as progress:
            for stage in ("pass 1", "pass 2"):
                for step in range(3):
                    assert terminal or f"{stage}:" not in text_of(shown), f"said before step {step}"
                    progress(stage)
        if terminal:
            assert all(f"fitting: {stage}" in text_of(shown) for stage in ("pass 1", "pass 2"))
            assert "3/3" in text_of(shown)
        else:
            assert text_of(shown) == "fitting: pass 1: 3/3\nfitting: pass 2: 3/3\n"


def test_a_path_is_printed_as_it_is() -> None:
    shown = console(terminal=False)
    path = "/a folder/[bold]" + "x" * 200
    say(shown, f"written to {path}")
    assert text_of(shown) == f"written to {path}\n"


def test_tables_have_room_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "70")
    assert open_console().width == 160  # what pytest captures is no terminal
