"""Spaces of settings as they are written on a command line, and searches that are kept in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from atrous.composition.settings_search import _space
from atrous.errors import AtrousError
from atrous.trials import RunningTrial, Search, best_value, require_same_space


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("a=1,2", CategoricalDistribution(["1", "2"])),
        ("a=choice([6,12],[1,2,3])", CategoricalDistribution(["[6,12]", "[1,2,3]"])),
        ("a=global,null", CategoricalDistribution(["global", "null"])),
        ("a=interval(0,1)", FloatDistribution(0.0, 1.0)),
        ("a=int(interval(1,5))", IntDistribution(1, 5)),
        ("a=tag(log,interval(0.001,0.1))", FloatDistribution(0.001, 0.1, log=True)),
        ("a=range(1,4)", IntDistribution(1, 3)),
        ("a=range(1,10,3)", IntDistribution(1, 7, step=3)),
        ("a=range(1,9,3)", IntDistribution(1, 7, step=3)),
        ("a=range(1,2,0.5)", CategoricalDistribution(["1.0", "1.5"])),
    ],
)
def test_distributions(said: str, wanted: optuna.distributions.BaseDistribution) -> None:
    fixed, space = _space({}, [said, "b=3"])
    assert fixed == ["b=3"]
    assert space == {"a": wanted}


def test_the_command_line_has_the_last_word() -> None:
    fixed, space = _space({"a": "choice(1,2)", "b": "choice(3,4)", "c": "x"}, ["a=5", "c=6,7"])
    assert fixed == ["a=5"]
    assert space == {"b": CategoricalDistribution(["3", "4"]), "c": CategoricalDistribution(["6", "7"])}


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("a=1", "has nothing to search"),
        ("a=interval(1,1)", "must go from a number to a larger one"),
        ("a=tag(log,interval(0,1))", "begins at 0.0, which has no logarithm"),
        ("a=tag(log,interval(-1,1))", "which has no logarithm"),
        ("a=range(3,1)", "has no value"),
        ("a=interval(1", "interval"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(said: str, words: str) -> None:
    with pytest.raises(AtrousError, match=words):
        _space({}, [said])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sampler": "best"}, "hydra.sweeper.sampler=best is unknown; choose one of tpe, random, gp"),
        ({"pruner": "best"}, "hydra.sweeper.pruner=best is unknown; choose one of median, hyperband, none"),
        ({"direction": "up"}, "hydra.sweeper.direction=up is unknown"),
        ({"startup": -1}, "hydra.sweeper.startup=-1 must be at least 0"),
    ],
)
def test_searches_that_make_no_sense(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(AtrousError, match=words):
        Search("s", tmp_path / "s.db", **options).study()


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp"])
def test_a_search_that_goes_on_draws_other_settings(sampler: str, tmp_path: Path) -> None:
    search = Search("s", tmp_path / "s.db", sampler=sampler, startup=3)
    space: dict[str, optuna.distributions.BaseDistribution] = {"a": FloatDistribution(0, 1)}
    drawn = []
    for number in range(5):
        study = search.study()
        drawn.append(study.ask(space).params["a"])
        study.tell(number, drawn[-1])
    assert len(set(drawn)) == 5
    assert [trial.params["a"] for trial in search.study().trials] == drawn


def test_hyperband_gives_few_runs_all_steps(tmp_path: Path) -> None:
    search = Search("s", tmp_path / "s.db", pruner="hyperband", steps=(900, 100))
    space: dict[str, optuna.distributions.BaseDistribution] = {"a": FloatDistribution(0, 1)}
    lengths = []
    for number in range(27):
        study = search.study()
        value = study.ask(space).params["a"]
        for step in range(100, 1000, 100):
            if RunningTrial(search, number).report(step, value) is not None:
                study.tell(number, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            study.tell(number, value)
        lengths.append(step)
    assert 0 < lengths.count(900) <= 18
    assert min(lengths) == 100


def test_a_step_that_is_validated_again_counts_once(tmp_path: Path) -> None:
    search = Search("s", tmp_path / "s.db", direction="minimize")
    search.study().ask({"a": FloatDistribution(0, 1)})
    trial = RunningTrial(search, 0)
    assert [trial.report(step, value) for step, value in ((10, 3.0), (20, 2.0), (20, 9.0))] == [None] * 3
    (kept,) = search.study().trials
    assert kept.intermediate_values == {10: 3.0, 20: 2.0}
    assert (best_value(kept, "minimize"), best_value(kept, "maximize")) == (2.0, 3.0)


def test_a_space_that_changed_is_named(tmp_path: Path) -> None:
    study = Search("s", tmp_path / "s.db").study()
    require_same_space(study, {"a": FloatDistribution(0, 1), "b": IntDistribution(1, 3)})
    require_same_space(study, {"b": IntDistribution(1, 3), "a": FloatDistribution(0, 1)})
    with pytest.raises(AtrousError, match=r"began with another space \(b, c differ\)"):
        require_same_space(
            study, {"a": FloatDistribution(0, 1), "b": IntDistribution(1, 4), "c": IntDistribution(1, 3)}
        )
