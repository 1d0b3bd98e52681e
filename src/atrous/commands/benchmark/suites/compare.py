"""Two runs of a suite: which ratios rose and which fell."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from atrous.commands.benchmark.history import WORSE, ratios, read, run_of
from atrous.errors import AtrousError
from atrous.terminal import say


def run(console: Console, *, record: str, of: str, before: int = -2, after: int = -1) -> dict[str, Any]:
    """Print the ratios of two runs of a suite beside each other.

    Args:
        console: Where the table goes.
        record: Folder of the records.
        of: Name of the suite.
        before: Number of the older run: 0 is the first of the record, -1 the last.
        after: Number of the newer run.

    Returns:
        Both ratios of every row that both runs have.

    Raises:
        AtrousError: There are no two such runs, they have no row in common, or a ratio fell by more than a tenth.
    """
    runs = read(record, of)
    older, newer = run_of(runs, before), run_of(runs, after)
    was, now = ratios(older), ratios(newer)
    common = [case for case in now if case in was]
    if not common:
        raise AtrousError(f"runs {before} and {after} of suite={of} have no row in common")
    table = Table("case", "before", "after", "change", title=f"{of}: {older['time']} and {newer['time']}")
    for case in common:
        table.add_row(case, f"{was[case]:.2f}x", f"{now[case]:.2f}x", f"{now[case] / was[case] - 1:+.0%}")
    console.print(table)
    one, other = (each["machine"]["processor"] for each in (older, newer))
    if one != other:
        say(console, f"not the same machine: {one}, then {other}")
    fallen = [case for case in common if now[case] < WORSE * was[case]]
    if fallen:
        raise AtrousError(
            f"{len(fallen)} of {len(common)} ratios of suite={of} fell by more than a tenth: {', '.join(fallen)}"
        )
    return {"suite": "compare", "rows": [{"case": case, "before": was[case], "after": now[case]} for case in common]}
