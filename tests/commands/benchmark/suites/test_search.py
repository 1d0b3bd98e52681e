"""Steps of a search for an architecture are timed."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from atrous.commands.benchmark.command import run_suite
from atrous.errors import AtrousError

SMALL = {
    **{"layers": 2, "width": 4, "blocks": 1, "crop": 33, "aspp_channels": 4, "stem": [2, 2, 2]},
    **{"rounds": 1, "device": "cpu"},
}


def suite(**options: Any) -> tuple[list[dict[str, Any]], str]:
    said = io.StringIO()
    result = run_suite("search", {**SMALL, **options}, Console(file=said, width=150))
    rows: list[dict[str, Any]] = result["rows"]
    return rows, said.getvalue()


def test_each_case_is_measured() -> None:
    cases = {
        "all": {},
        "half": {"partial_channels": 2, "bf16": True},
        "one": {"sampling": "gumbel", "recompute": False},
    }
    rows, said = suite(cases=cases)
    assert [row["case"] for row in rows] == list(cases)
    assert rows[0]["ratio"] == 1
    for row in rows:
        weights, architecture = row["ms"]["weights"]["median"], row["ms"]["architecture"]["median"]
        assert min(weights, architecture) > 0
        # 743 steps of two images of half of the 2975, forty times; the architecture twenty times
        assert row["days"] * 86_400_000 == pytest.approx(743 * (40 * weights + 20 * architecture))
        assert row["case"] in said


def test_mistakes_are_one_sentence() -> None:
    with pytest.raises(AtrousError, match=r"search\.cases\.all\.samplings is unknown"):
        suite(cases={"all": {"samplings": "all"}})
    with pytest.raises(AtrousError, match=r"search\.crop=0"):
        suite(cases={}, crop=0)
