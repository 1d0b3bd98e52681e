"""Running a sweep: train and score every arm with every seed, and write table, figure and numbers."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from atrous.atomic_file import atomic_file
from atrous.commands.sweep.plan import Arm, arms_of
from atrous.commands.sweep.trainings import Training, run_all
from atrous.composition import Config, plain, require_types
from atrous.errors import AtrousError, require_range
from atrous.metrics import Protocol
from atrous.reports.sections import renew_section
from atrous.reports.sweeps import ArmResult, SweepResult, sweep_figure, sweep_markdown
from atrous.reports.theme import write_figures
from atrous.runs import locked
from atrous.terminal import open_console, say

_TYPES = {
    "recipe": str,
    "train": str,
    "evaluate": str,
    "seeds": list[int],
    "arms": list[str] | None,
    "jobs": int,
    "keep_checkpoints": bool,
    "page": str | None,
    "sweep.question": str,
    "sweep.source": str | None,
    "sweep.measures": dict[str, str],
    "sweep.arms": dict[str, Any],
}


def sweep(config: Config) -> None:
    """Do what is missing of a sweep, then write what came out.

    Raises:
        AtrousError: A value is wrong, or a page does not exist.
    """
    require_types(config, _TYPES)
    require_range("jobs", config.jobs, at_least=1)
    seeds = list(config.seeds)
    require_range("seeds", seeds, at_least=0)
    if not seeds or len(set(seeds)) < len(seeds):
        raise AtrousError(f"seeds={seeds} must be one or more different numbers")
    if config.page is not None and not Path(config.page).is_file():
        raise AtrousError(f"page={config.page} does not exist: create it, or set page=null")
    if config.page is not None and config.arms is not None:
        raise AtrousError("page= shows all arms of a sweep: leave arms out, or set page=null")
    arms, store = arms_of(config), Path(config.folder) / "runs"
    name = f"{config.sweep.name}_{config.recipe}"
    console = open_console()
    trainings = _trainings(arms, seeds, store)
    waiting = [each for each in trainings if each.missing]
    done_before = len(trainings) - len(waiting)
    say(
        console, f"{name}: {len(arms)} arms, {len(seeds)} seeds: {len(trainings)} trainings, {done_before} of them done"
    )
    failures: list[str] = []
    with locked(Path(config.folder) / name):
        ended, began = 0, time.monotonic()

        def done(training: Training, seconds: float) -> None:
            nonlocal ended
            ended += 1
            if not config.keep_checkpoints:
                training.forget_checkpoints()
            left = (time.monotonic() - began) / ended * (len(waiting) - ended)
            say(console, f"{ended} of {len(waiting)}: {training.label}, {_clock(seconds)}, about {_clock(left)} left")

        def failed(training: Training, sentence: str) -> None:
            nonlocal ended
            ended += 1
            failures.append(f"{training.label}: {sentence} (all it said is in {training.folder / 'log.txt'})")
            say(console, f"{ended} of {len(waiting)}: {training.label} failed: {sentence}")

        run_all(waiting, jobs=config.jobs, done=done, failed=failed)
        found = _result(config, name, arms, {each.folder: each for each in trainings}, seeds, store)
        if found is not None:
            folder = Path(config.folder) / name
            table = _write(found, folder, page=config.page)
            say(console, f"\n{found.question}\n\n{table}")
            say(console, f"written to {' and '.join([str(folder), *filter(None, [config.page])])}")
    if failures:
        for line in failures:
            print(f"error: {line}", file=sys.stderr)
        sys.exit(1)


def _trainings(arms: Sequence[Arm], seeds: Sequence[int], store: Path) -> list[Training]:
    """One for each recipe and seed, seed by seed, so that a sweep that is stopped can be compared."""
    found: dict[Path, Training] = {}
    for seed in seeds:
        for arm in arms:
            folder = arm.folder(store, seed)
            training = found.setdefault(folder, Training(f"{arm.name}, seed {seed}", folder, arm.train, seed=seed))
            if arm.evaluate not in training.evaluate:
                training.evaluate.append(arm.evaluate)
    return list(found.values())


def _result(
    config: Config,
    name: str,
    arms: Sequence[Arm],
    trainings: Mapping[Path, Training],
    seeds: Sequence[int],
    store: Path,
) -> SweepResult | None:
    """What there is so far; nothing before there is anything of every arm."""
    measures: dict[str, str] = plain(config.sweep.measures)
    results, protocol = [], ""
    for arm in arms:
        measured: dict[str, dict[int, float]] = {measure: {} for measure in measures}
        for seed in seeds:
            score = trainings[arm.folder(store, seed)].score(arm.evaluate)
            if score is not None:
                for measure, path in measures.items():
                    measured[measure][seed] = _number(score, path, key=f"sweep.measures.{measure}")
                protocol = protocol or str(Protocol.from_dict({**score["protocol"], "checkpoint": None}))
        if not any(measured.values()):
            return None
        results.append(ArmResult(arm.name, arm.paper, measured))
    return SweepResult(
        name, config.sweep.question, config.sweep.source, config.recipe, protocol, tuple(measures), tuple(results)
    )


def _number(score: Mapping[str, Any], path: str, *, key: str) -> float:
    """A number of an evaluation by its path: shares in %, costs as they are.

    Raises:
        AtrousError: There is no such number.
    """
    node: Any = score
    for part in path.split("."):
        if not isinstance(node, Mapping) or part not in node:
            known = ", ".join(node) if isinstance(node, Mapping) else "nothing"
            raise AtrousError(f"{key}={path}: an evaluation has no {part!r} there, but {known}")
        node = node[part]
    if not isinstance(node, int | float):
        more = f"go on with one of {', '.join(node)}" if isinstance(node, Mapping) else "nothing was counted there"
        raise AtrousError(f"{key}={path} is no number: {more}")
    return float(node) if path.startswith("cost.") else 100 * float(node)


def _write(result: SweepResult, folder: Path, *, page: str | None) -> str:
    """Write numbers, table and figure, and renew them in a page; returns the table."""
    table = sweep_markdown(result)
    places = [folder] if page is None else [folder, Path(page).with_suffix("")]
    for place in places:
        with atomic_file(place / f"{result.name}.json") as file:
            file.write((json.dumps(result.to_dict(), indent=1) + "\n").encode())
        write_figures(place, result.name, lambda theme: sweep_figure(result, theme))
    if page is not None:
        renew_section(Path(page), result.name, table, alt=result.question)
    return table


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
