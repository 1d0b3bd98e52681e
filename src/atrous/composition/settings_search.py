"""A search over settings, each point of which is a run: ``python src/train.py -m hydra/sweeper=optuna``."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf

from atrous.composition.multirun import Outcome, is_multirun, program
from atrous.errors import AtrousError, first_line, require_range
from atrous.runs import locked
from atrous.terminal import open_console, say
from atrous.trials import RunningTrial, Search, best_value, require_same_space

if TYPE_CHECKING:
    import optuna

_OURS = "hydra_plugins.atrous_search.OptunaSweeper"
BEST = "best.yaml"
"""File of the settings of the best run, in the folder of the search."""

Overrides = Sequence[Sequence[str]]


class SettingsSearch:
    """Asks for settings, runs them, and tells what became of them.

    Args:
        config: The whole configuration.
        study: Name of the search; its folder and its entry in the storage are named after it.
        storage: SQLite file.
        runs: Runs in all, pruned and failed ones included.
        jobs: Runs that the launcher gets at a time; more than one needs a launcher that runs them at once.
        params: Settings to search, written as on the command line: ``interval(…)``, ``choice(…)`` or ``range(…)``.
        search: ``monitor``, ``direction``, ``sampler``, ``pruner``, ``startup`` and ``seed`` of ``Search``.

    Raises:
        AtrousError: A value is impossible.
    """

    def __init__(
        self,
        config: DictConfig,
        *,
        study: str,
        storage: str,
        runs: int = 20,
        jobs: int = 1,
        params: Mapping[str, str] | None = None,
        **search: Any,
    ) -> None:
        require_range("hydra.sweeper.runs", runs, at_least=1)
        require_range("hydra.sweeper.jobs", jobs, at_least=1)
        self._folder = Path(config.hydra.sweep.dir)
        self._config = config
        self._runs, self._jobs = runs, jobs
        self._params = dict(params or {})
        self._search = _search_of(study=study, storage=storage, **search)

    def run(
        self,
        arguments: Sequence[str],
        launcher: Launcher,
        loader: ConfigLoader,
        validate: Callable[[Overrides], None],
    ) -> None:
        """Start runs until there are as many as were asked for; runs that a kill has ended come first.

        Args:
            arguments: Overrides of the command line.
            launcher: Starts runs.
            loader: Knows which overrides are groups.
            validate: Composes a batch.

        Raises:
            AtrousError: The space is empty, or not the one that the study began with; or another process searches.
        """
        fixed, space = _space(self._params, arguments, loader)
        study = self._search.study()
        require_same_space(study, space)
        with locked(self._folder):
            OmegaConf.save(self._config, self._folder / "multirun.yaml")
            for batch in self._batches(study, space):
                overrides = [[*fixed, *(f"{key}={value}" for key, value in trial.params.items())] for trial in batch]
                validate(overrides)
                launcher.launch(overrides, initial_job_idx=batch[0].number)
                for trial in batch:
                    self._tell(study, trial.number)
            self._conclude(study, fixed)

    def _batches(self, study: optuna.Study, space: Mapping[str, Any]) -> Iterator[Sequence[Any]]:
        """Trials that are started together, with numbers in a row."""
        for trial in study.trials:
            if not trial.state.is_finished():
                yield [trial]
        while (left := self._runs - len(study.trials)) > 0:
            yield [study.ask(dict(space)) for _ in range(min(left, self._jobs))]

    def _tell(self, study: optuna.Study, number: int) -> None:
        outcome = Outcome.read(self._folder / str(number))
        value = best_value(study.trials[number], self._search.direction)
        if outcome is not None and outcome.status == "pruned":
            study.tell(number, state=_state("PRUNED"))
        elif outcome is not None and outcome.status == "finished" and value is not None:
            study.tell(number, value)
        else:
            study.tell(number, state=_state("FAIL"))

    def _conclude(self, study: optuna.Study, fixed: Sequence[str]) -> None:
        """Say what was found, and keep the best settings."""
        console = open_console()
        complete = [trial for trial in study.trials if trial.state == _state("COMPLETE")]
        if not complete:
            return
        best = study.best_trial
        found = [f"{key}={value}" for key, value in best.params.items()]
        OmegaConf.save(OmegaConf.create([*fixed, *found]), self._folder / BEST)
        say(console, f"best of {len(study.trials)} runs: {self._search.monitor} {best.value:.4g} in {best.number}")
        words = " ".join(map(shlex.quote, [*fixed, *found]))
        say(console, f"`{program(self._config.hydra)} {words}` repeats it")


def trial_of_run() -> RunningTrial | None:
    """The trial that this run is, if it is one of a search."""
    if not is_multirun() or HydraConfig.get().sweeper.get("_target_") != _OURS:
        return None
    hydra = HydraConfig.get()
    said = {key: value for key, value in hydra.sweeper.items() if key not in ("_target_", "runs", "jobs", "params")}
    return RunningTrial(_search_of(**said), int(hydra.job.num))


def _search_of(*, study: str, storage: str, steps: Sequence[int] = (1, 1), **options: Any) -> Search:
    """The search that the sweeper's options describe."""
    return Search(name=study, storage=Path(storage).absolute(), steps=(int(steps[0]), int(steps[1])), **options)


def _space(
    params: Mapping[str, str], arguments: Sequence[str], loader: ConfigLoader | None = None
) -> tuple[list[str], dict[str, optuna.distributions.BaseDistribution]]:
    """Overrides that all runs have, and the distributions of those that differ."""
    try:
        words = [*(f"{key}={value}" for key, value in params.items()), *arguments]
        said = OverridesParser.create(config_loader=loader).parse_overrides(words)
    except HydraException as error:
        raise AtrousError(first_line(error)) from error
    last = {each.get_key_element(): each for each in said}  # the command line has the last word
    fixed = [str(each.input_line) for each in last.values() if not each.is_sweep_override()]
    space = {key: _distribution(each) for key, each in last.items() if each.is_sweep_override()}
    if not space:
        raise AtrousError(
            "hydra/sweeper=optuna has nothing to search: give settings such as "
            "'task.learning_rate=interval(0.001,0.1)', or one of hydra/sweeper=optuna_<question>"
        )
    return fixed, space


def _distribution(override: Override) -> optuna.distributions.BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value = override.value()
    if isinstance(value, ChoiceSweep) or (override.is_discrete_sweep() and not isinstance(value, RangeSweep)):
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    if isinstance(value, RangeSweep):
        start, stop, step = value.start, value.stop, value.step
        if start is None or stop is None:
            raise AtrousError(f"{override.input_line} must say where the range begins and ends")
        if not list(override.sweep_string_iterator()):
            raise AtrousError(f"{override.input_line} has no value: it ends before it begins")
        if all(isinstance(each, int) for each in (start, stop, step)) and step > 0:
            return IntDistribution(int(start), int(start + (stop - 1 - start) // step * step), step=int(step))
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    assert isinstance(value, IntervalSweep)
    low, high = value.start, value.end
    if low is None or high is None or not low < high:
        raise AtrousError(f"{override.input_line} must go from a number to a larger one")
    log = "log" in value.tags
    if log and low <= 0:
        raise AtrousError(f"{override.input_line} begins at {low}, which has no logarithm")
    if isinstance(low, int) and isinstance(high, int):  # of int(interval(…)); others are floats
        return IntDistribution(low, high, log=log)
    return FloatDistribution(float(low), float(high), log=log)


def _state(name: str) -> Any:
    from optuna.trial import TrialState

    return TrialState[name]
