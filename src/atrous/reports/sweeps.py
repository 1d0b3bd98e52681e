"""The answer of a sweep: arms with mean and standard deviation over seeds, and beside them what the paper says."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from atrous.metrics.paired import interval, spread
from atrous.reports.theme import Theme, themed_figure


@dataclass(frozen=True)
class ArmResult:
    """What came out for one arm.

    Attributes:
        name: The arm, in words.
        paper: The paper's score in %, if there is one.
        measured: By name of a measure, its value of each seed.
    """

    name: str
    paper: float | None
    measured: Mapping[str, Mapping[int, float]]


@dataclass(frozen=True)
class SweepResult:
    """What came out of a sweep.

    Attributes:
        name: The sweep.
        question: What was asked.
        source: The paper's table, if there is one.
        recipe: What all arms shared.
        protocol: How it was scored.
        measures: Names of the measures; the first is the one that counts.
        arms: In the order of the sweep; the first is the one that others are compared with.
    """

    name: str
    question: str
    source: str | None
    recipe: str
    protocol: str
    measures: tuple[str, ...]
    arms: tuple[ArmResult, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        arms = [
            {
                "name": arm.name,
                "paper": arm.paper,
                "measured": {
                    name: {str(seed): round(value, 4) for seed, value in values.items()}
                    for name, values in arm.measured.items()
                },
            }
            for arm in self.arms
        ]
        return {**vars(self), "measures": list(self.measures), "arms": arms}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SweepResult:
        """Inverse of ``to_dict``."""
        arms = tuple(
            ArmResult(
                each["name"],
                each["paper"],
                {
                    name: {int(seed): value for seed, value in of_seeds.items()}
                    for name, of_seeds in each["measured"].items()
                },
            )
            for each in values["arms"]
        )
        return cls(**{**values, "measures": tuple(values["measures"]), "arms": arms})

    def differences(self, arm: ArmResult, other: ArmResult) -> list[float]:
        """By how much an arm is above another one, for each seed that both have."""
        ours, theirs = arm.measured[self.measures[0]], other.measured[self.measures[0]]
        return [ours[seed] - theirs[seed] for seed in ours if seed in theirs]


class Order(NamedTuple):
    """How many pairs of arms come in the paper's order.

    Attributes:
        pairs: Pairs that have different scores in the paper.
        same: Those whose mean difference has the paper's sign, with an interval that excludes 0.
        reversed: Those with the other sign, likewise.
    """

    pairs: int
    same: int
    reversed: int


def order(result: SweepResult) -> Order:
    """Compare the order of the arms with that of the paper, pair by pair and seed by seed."""
    pairs = same = reversed_ = 0
    for first, second in itertools.combinations(result.arms, 2):
        if first.paper is None or second.paper is None or first.paper == second.paper:
            continue
        pairs += 1
        low, high = interval(result.differences(second, first))
        if low > 0 or high < 0:
            agrees = (low > 0) == (second.paper > first.paper)
            same += agrees
            reversed_ += not agrees
    return Order(pairs, same, reversed_)


def sweep_markdown(result: SweepResult) -> str:
    """The table of a sweep, and one line on the order of its arms."""
    first = result.arms[0]
    with_paper = any(arm.paper is not None for arm in result.arms)
    seeds = sorted({seed for arm in result.arms for values in arm.measured.values() for seed in values})
    head = ["arm", *(["paper"] if with_paper else []), *result.measures, f"paired, over {first.name}"]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for arm in result.arms:
        paper = ["–" if arm.paper is None else f"{arm.paper:.2f}"] if with_paper else []
        values = [_said(list(arm.measured[name].values())) for name in result.measures]
        lines.append([arm.name, *paper, *values, "" if arm is first else _said(result.differences(arm, first), "+")])
    table = [f"| {' | '.join(line)} |" for line in lines]
    notes = [f"Mean ± standard deviation over {len(seeds)} seeds; {result.protocol}."]
    found = order(result)
    if found.pairs:
        within = found.pairs - found.same - found.reversed
        notes.append(
            f"Of {found.pairs} pairs that {result.source or 'the paper'} orders, {found.same} "
            f"{'comes' if found.same == 1 else 'come'} in its order, {found.reversed} in the other one, and {within} "
            f"{'is' if within == 1 else 'are'} within the spread (paired by seed, 95 %)."
        )
    return "\n".join([*table, "", " ".join(notes)]) + "\n"


def _said(values: Sequence[float], sign: str = "") -> str:
    if not values:
        return "–"
    mean, deviation, count = spread(values)
    return f"{mean:{sign}.1f}" + ("" if count < 2 else f" ± {deviation:.1f}")


def sweep_figure(result: SweepResult, theme: Theme) -> Figure:
    """Every run as a dot, the mean of each arm as a line, and beside them the paper's scores on their own scale."""
    arms, measure = result.arms, result.measures[0]
    with_paper = any(arm.paper is not None for arm in arms)
    figure = themed_figure(theme, 8.2 if with_paper else 6.0, 1.3 + 0.36 * len(arms))
    ours = figure.add_subplot(1, 2 if with_paper else 1, 1)
    rows = range(len(arms))
    for row, arm in enumerate(arms):
        values = list(arm.measured[measure].values())
        ours.plot(values, [row] * len(values), "o", color=theme.blue, markersize=5, alpha=0.65, markeredgewidth=0)
        if values:
            ours.plot([spread(values).mean], [row], "|", color=theme.ink, markersize=15, markeredgewidth=2)
    ours.set_yticks(rows, [arm.name for arm in arms])
    ours.set_title(f"here: {measure}", loc="left", fontsize=10)
    panels = [ours]
    if with_paper:
        theirs = figure.add_subplot(1, 2, 2)
        known = [(arm.paper, row) for row, arm in enumerate(arms) if arm.paper is not None]
        theirs.plot([paper for paper, _ in known], [row for _, row in known], "D", color=theme.orange, markersize=5)
        theirs.set_yticks(rows, [""] * len(arms))
        theirs.set_title(f"{result.source or 'paper'}", loc="left", fontsize=10)
        panels.append(theirs)
    for axes in panels:
        axes.set_ylim(len(arms) - 0.5, -0.5)
        theme.tidy(axes, grid="both")
        low, high = axes.get_xlim()
        if math.isclose(low, high):
            axes.set_xlim(low - 1, high + 1)
    return figure
