"""Tables of sweeps, and the order of their arms."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from atrous.reports.sweeps import ArmResult, SweepResult, order, sweep_figure, sweep_markdown
from atrous.reports.theme import THEMES, Theme, write_figures


def result(**arms: tuple[float | None, list[float]]) -> SweepResult:
    """A sweep whose arms have a paper's score and those of seeds 0, 1, …"""
    return SweepResult(
        "aspp_shapes",
        "Which?",
        "table 3",
        "shapes",
        "shapes val · OS 8",
        ("mIoU",),
        tuple(ArmResult(name, paper, {"mIoU": dict(enumerate(values))}) for name, (paper, values) in arms.items()),
    )


def test_a_difference_that_all_seeds_share_counts_whatever_the_spread_of_the_seeds() -> None:
    found = order(result(a=(60.0, [40.0, 50.0, 60.0]), b=(61.0, [41.1, 51.0, 60.9])))
    assert found == (1, 1, 0)


def test_the_other_order_counts_as_reversed() -> None:
    assert order(result(a=(60.0, [41.1, 51.0, 60.9]), b=(61.0, [40.0, 50.0, 60.0]))) == (1, 0, 1)


def test_differences_of_both_signs_are_within_the_spread() -> None:
    assert order(result(a=(60.0, [40.0, 50.0, 60.0]), b=(61.0, [42.0, 49.0, 61.0]))) == (1, 0, 0)


def test_pairs_that_the_paper_does_not_order_do_not_count() -> None:
    alike = [1.0, 2.0, 3.0]
    assert order(result(a=(60.0, alike), b=(None, [11.0, 12.0, 13.0]), c=(60.0, [21.0, 22.0, 23.0]))).pairs == 0


def test_one_seed_decides_nothing() -> None:
    assert order(result(a=(60.0, [40.0]), b=(61.0, [50.0]))) == (1, 0, 0)


def test_the_table_has_means_deviations_and_paired_differences() -> None:
    lines = sweep_markdown(result(a=(60.0, [40.0, 50.0, 60.0]), b=(61.5, [41.0, 51.0, 61.0]))).splitlines()
    assert lines[0] == "| arm | paper | mIoU | paired, over a |"
    assert lines[2] == "| a | 60.00 | 50.0 ± 10.0 |  |"
    assert lines[3] == "| b | 61.50 | 51.0 ± 10.0 | +1.0 ± 0.0 |"
    assert "over 3 seeds; shapes val · OS 8." in lines[5]
    assert "Of 1 pairs that table 3 orders, 1 comes in its order, 0 in the other one, and 0 are within" in lines[5]


def test_seeds_that_one_arm_lacks_are_left_out_of_the_difference() -> None:
    table = sweep_markdown(result(a=(None, [40.0, 50.0, 90.0]), b=(None, [41.0, 51.0])))
    assert "| b | 46.0 ± 7.1 | +1.0 ± 0.0 |" in table


def test_to_dict_and_back() -> None:
    before = result(a=(60.0, [40.0, 50.0]), b=(None, [41.0, 51.0]))
    assert SweepResult.from_dict(json.loads(json.dumps(before.to_dict()))) == before


def test_figures_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    what = result(a=(60.0, [40.0, 50.0]), b=(61.0, [41.0, 51.0]), c=(None, [45.0]))
    first = write_figures(tmp_path / "1", "f", lambda theme: sweep_figure(what, theme))
    again = write_figures(tmp_path / "2", "f", lambda theme: sweep_figure(what, theme))
    assert {path.name for path in first} == {"f.svg", "f.png", "f_dark.svg", "f_dark.png"}
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: f"page{theme.suffix}")
def test_every_run_is_a_dot_in_its_row(theme: Theme) -> None:
    axes = sweep_figure(result(a=(60.0, [40.0, 50.0]), b=(61.0, [41.0, 51.0, 52.0])), theme).axes[0]
    dots = {int(line.get_ydata()[0]): list(line.get_xdata()) for line in axes.lines if line.get_marker() == "o"}
    assert dots == {0: [40.0, 50.0], 1: [41.0, 51.0, 52.0]}
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first arm is on top
