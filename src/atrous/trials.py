"""Trials of a search over settings, in a storage that outlives every process: Optuna's, in SQLite.

Optuna comes with the extra ``sweep`` and is imported only by who uses it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from atrous.errors import AtrousError, require_range

if TYPE_CHECKING:
    import optuna

Direction = Literal["maximize", "minimize"]
_SAMPLERS = {"tpe": "TPESampler", "random": "RandomSampler", "gp": "GPSampler"}
_PRUNERS = ("median", "hyperband", "none")
_SPACE = "space"


@dataclass(frozen=True)
class Search:
    """What is searched, and where what was found is kept.

    Attributes:
        name: Its name in the storage.
        storage: File of the storage.
        monitor: What a validation logs that counts, such as ``val/miou``.
        direction: Whether more of it is better.
        sampler: ``tpe`` (tree of Parzen estimators), ``random``, or ``gp`` (a Gaussian process).
        pruner: ``median`` ends a run that is below the median of the others at the same step, ``hyperband`` gives few
            runs all steps and many only some, ``none`` ends none.
        startup: Runs before settings are chosen by those of others, or runs are ended.
        seed: Of the sampler, for its first run.
        steps: Optimizer steps of a whole run, and between two validations.
    """

    name: str
    storage: Path
    monitor: str = "val/miou"
    direction: Direction = "maximize"
    sampler: str = "tpe"
    pruner: str = "median"
    startup: int = 5
    seed: int = 0
    steps: tuple[int, int] = (1, 1)

    def study(self) -> optuna.Study:
        """The study, which is new or goes on.

        Raises:
            AtrousError: Optuna is missing, or a name is unknown.
        """
        package = _optuna()
        require_range("hydra.sweeper.startup", self.startup, at_least=0)
        if self.direction not in ("maximize", "minimize"):
            raise AtrousError(f"hydra.sweeper.direction={self.direction} is unknown; choose maximize or minimize")
        if self.sampler not in _SAMPLERS:
            raise AtrousError(f"hydra.sweeper.sampler={self.sampler} is unknown; choose one of {', '.join(_SAMPLERS)}")
        options = {} if self.sampler == "random" else {"n_startup_trials": self.startup}
        self.storage.parent.mkdir(parents=True, exist_ok=True)
        study: optuna.Study = package.create_study(
            storage=f"sqlite:///{self.storage}",
            study_name=self.name,
            direction=self.direction,
            pruner=self._pruner(),
            load_if_exists=True,
        )
        seed = self.seed + len(study.trials)  # a search that goes on draws other settings
        study.sampler = getattr(package.samplers, _SAMPLERS[self.sampler])(seed=seed, **options)
        return study

    def _pruner(self) -> optuna.pruners.BasePruner:
        if self.pruner not in _PRUNERS:
            raise AtrousError(f"hydra.sweeper.pruner={self.pruner} is unknown; choose one of {', '.join(_PRUNERS)}")
        most, least = self.steps
        kind, options = {
            "median": ("MedianPruner", {"n_startup_trials": self.startup}),
            "hyperband": ("HyperbandPruner", {"min_resource": least, "max_resource": most}),
            "none": ("NopPruner", {}),
        }[self.pruner]
        pruner: optuna.pruners.BasePruner = getattr(_optuna().pruners, kind)(**options)
        return pruner


@dataclass(frozen=True)
class RunningTrial:
    """A run of a search, from inside the run.

    Attributes:
        search: The search.
        number: Of the trial.
    """

    search: Search
    number: int

    def report(self, step: int, value: float) -> str | None:
        """Note what a validation found.

        Args:
            step: Optimizer steps before it.
            value: Of what is monitored.

        Returns:
            Why the run is not worth going on with, if it is not.
        """
        study = self.search.study()
        trial = _optuna().trial.Trial(study, study.trials[self.number]._trial_id)
        if step not in study.trials[self.number].intermediate_values:  # a resumed run validates a step again
            trial.report(value, step)
        if not trial.should_prune():
            return None
        return (
            f"ended after {step} steps: {self.search.monitor} {value:.4g} is not among the better ones of "
            f"{len(study.trials)} runs ({self.search.pruner})"
        )


def require_same_space(study: optuna.Study, space: Mapping[str, Any]) -> None:
    """Keep a search from going on with other settings than it began with.

    Raises:
        AtrousError: The space is another one.
    """
    said = {key: str(distribution) for key, distribution in sorted(space.items())}
    before = study.user_attrs.get(_SPACE)
    if before is None:
        study.set_user_attr(_SPACE, said)
    elif before != said:
        changed = sorted(key for key in before.keys() | said.keys() if before.get(key) != said.get(key))
        raise AtrousError(
            f"the study {study.study_name} began with another space ({', '.join(changed)} differ): give the same one, "
            "or hydra.sweeper.study=<a new name>"
        )


def best_value(trial: optuna.trial.FrozenTrial, direction: Direction) -> float | None:
    """The best that a run has reported, which is what its best checkpoint has."""
    values = trial.intermediate_values.values()
    return (max if direction == "maximize" else min)(values, default=None)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise AtrousError(
            "hydra/sweeper=optuna needs the package optuna: install the extra `sweep` (pip install 'atrous[sweep]')"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
