"""Many runs with one command: each is kept from ending the others, skipped when it is done, and listed at the end."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from atrous.atomic_file import atomic_file
from atrous.composition.exits import tell
from atrous.errors import AtrousError, RunInterrupted, TrialPruned
from atrous.places import command
from atrous.runs import CHECKPOINTS

_FILE = "outcome.json"
_lost = 0
"""Runs of the last multirun that failed."""


@dataclass(frozen=True)
class Outcome:
    """How far one of many runs has come; kept in its folder.

    Attributes:
        status: ``begun``, ``finished``, ``pruned`` (not worth going on with) or ``failed``.
        overrides: Its settings.
        sentence: Why it was pruned or failed.
    """

    status: str
    overrides: tuple[str, ...]
    sentence: str = ""

    @classmethod
    def read(cls, folder: Path) -> Outcome | None:
        """That of a folder, if a run has begun there."""
        if not (folder / _FILE).is_file():
            return None
        found = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        return cls(**{**found, "overrides": tuple(found["overrides"])})

    def write(self, folder: Path) -> None:
        """Keep it."""
        with atomic_file(folder / _FILE) as file:
            file.write(json.dumps(asdict(self), indent=2).encode())


def is_multirun() -> bool:
    """Whether this process does one of many runs."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def one_of_many(work: Callable[[DictConfig], Any], config: DictConfig) -> None:
    """Do one of many runs, unless it is done; go on with it where it was interrupted.

    Raises:
        AtrousError: The folder belongs to a run with other settings.
    """
    hydra = HydraConfig.get()
    folder, said = Path(hydra.runtime.output_dir), tuple(hydra.overrides.task)
    before = Outcome.read(folder)
    if before is not None and before.overrides != said:
        raise AtrousError(
            f"{folder} belongs to a run with other settings ({' '.join(before.overrides)}): give "
            "hydra.sweep.dir=<another folder>, or the command that began it"
        )
    if before is not None and before.status == "finished":
        print(f"{folder}: finished before, so it is not run again", flush=True)
        return
    if (folder / CHECKPOINTS / "last.ckpt").is_file() and before is not None and config.get("ckpt_path", "") is None:
        config.ckpt_path = str(folder)
    Outcome("begun", said).write(folder)
    try:
        work(config)
    except (RunInterrupted, KeyboardInterrupt):
        again = " ".join([program(hydra), *map(shlex.quote, _without_folder(sys.argv[1:]))])
        print(f"`{again} hydra.sweep.dir={hydra.sweep.dir}` goes on with all runs", file=sys.stderr, flush=True)
        raise
    except TrialPruned as pruned:
        Outcome("pruned", said, str(pruned)).write(folder)
        print(f"{folder}: {pruned}", flush=True)
    except Exception as error:  # whatever it is, the other runs go on
        sentence, _ = tell(error)
        Outcome("failed", said, sentence).write(folder)
    else:
        Outcome("finished", said).write(folder)


def program(hydra: Any) -> str:
    """How the program of a configuration is called, such as ``python src/search.py``."""
    return command(str(hydra.job.config_name).partition("_")[0])


def exit_status() -> int:
    """1 if a run of the last multirun has failed; asked once."""
    global _lost
    lost, _lost = _lost, 0
    return int(lost > 0)


class ComparisonPage(Callback):
    """Lists the runs that failed when all of them have ended, and writes a page that compares the others."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write it into the folder of the multirun."""
        from atrous.reports.pages import write_multirun_page  # who reads a command line does not wait for it
        from atrous.terminal import open_console, say

        folder, console = Path(config.hydra.sweep.dir), open_console()
        repeat = " ".join([program(config.hydra), *map(shlex.quote, sys.argv[1:])])
        page = write_multirun_page(folder, command=repeat)
        for line in _summary(folder):
            say(console, line)
        if page is not None:
            say(console, f"all runs on one page: {page}")


def _summary(folder: Path) -> list[str]:
    """How many runs there are of each outcome, and why some failed."""
    global _lost
    numbered = sorted((each for each in folder.iterdir() if each.name.isdigit()), key=lambda each: int(each.name))
    outcomes = {each.name: outcome for each in numbered if (outcome := Outcome.read(each)) is not None}
    failed = {name: outcome for name, outcome in outcomes.items() if outcome.status == "failed"}
    _lost = len(failed)
    counts = [
        f"{count} {status}"
        for status in ("finished", "pruned", "failed")
        if (count := sum(outcome.status == status for outcome in outcomes.values()))
    ]
    return [", ".join(counts), *(f"{name} failed: {outcome.sentence}" for name, outcome in failed.items())]


def _without_folder(words: Sequence[str]) -> list[str]:
    return [word for word in words if not word.startswith("hydra.sweep.dir=")]
