"""What a sweep asks for: its arms, and the trainings behind them."""

from __future__ import annotations

import functools
import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atrous.checkpoints.resume import decides_the_curve
from atrous.composition import Config, compose, plain
from atrous.errors import AtrousError
from atrous.places import choices

_SET_BY_THE_SWEEP = ("seed", "ckpt_path", "paths.run", "experiment")


@dataclass(frozen=True)
class Arm:
    """One of the ways of training and scoring that a sweep compares.

    Attributes:
        name: What distinguishes it from the others, in words.
        train: Overrides of its training.
        evaluate: Overrides of its evaluation.
        paper: The paper's score in %, if there is one.
        digest: Of everything that decides its curve, but the seed.
    """

    name: str
    train: tuple[str, ...]
    evaluate: tuple[str, ...]
    paper: float | None
    digest: str

    def folder(self, store: Path, seed: int) -> Path:
        """Where its training with a seed is; arms with the same digest share it."""
        return store / self.digest / f"seed_{seed}"


def arms_of(config: Config) -> list[Arm]:
    """The arms that a configuration asks for, in their order.

    Every configuration is composed, so that a wrong word is found before the first training.

    Raises:
        AtrousError: There are none, one is unknown, or an override is wrong or sets what the sweep sets.
    """
    described: Mapping[str, Any] = plain(config.sweep.arms)
    known = choices("experiment")
    if config.recipe not in known:
        raise AtrousError(f"recipe={config.recipe} is none of {', '.join(known)}")
    wanted = list(described) if config.arms is None else list(config.arms)
    for name in wanted:
        if name not in described:
            raise AtrousError(f"arms: the sweep has no arm {name!r}; choose from {', '.join(described)}")
    if not wanted:
        raise AtrousError("arms=[] asks for nothing: name one or more, or set it to null")
    train = [*_words(config.sweep.train, "sweep.train"), *_words(config.train, "train")]
    evaluate = [*_words(config.sweep.evaluate, "sweep.evaluate"), *_words(config.evaluate, "evaluate")]
    shared = (f"experiment={config.recipe}", *train)
    group = f"{config.sweep.name}_{config.recipe}"
    return [_arm(name, described[name], shared, evaluate, group=group) for name in wanted]


def _arm(
    name: str, node: Mapping[str, Any] | None, train: Sequence[str], evaluate: Sequence[str], *, group: str
) -> Arm:
    node = node or {}
    key = f"sweep.arms.{name}"
    if unknown := sorted(set(node) - {"train", "evaluate", "paper"}):
        raise AtrousError(f"{key} has no {', '.join(unknown)}: an arm has train, evaluate and paper")
    paper = node.get("paper")
    if paper is not None and not isinstance(paper, int | float):
        raise AtrousError(f"paper of {key} is {paper!r}: give a number, the paper's score in %")
    train = (*train, *_words(node.get("train", ""), f"{key}.train"))
    evaluate = (*evaluate, *_words(node.get("evaluate", ""), f"{key}.evaluate"))
    _check_evaluation(evaluate)
    with compose("train", [*train, "seed=0", "paths.run=run"]) as config:
        digest = _digest(plain(config))
        if "wandb" in config.logger and config.logger.wandb.group is None:
            train = (*train, f"logger.wandb.group={group}")
    return Arm(name, train, evaluate, None if paper is None else float(paper), digest)


@functools.cache
def _check_evaluation(words: tuple[str, ...]) -> None:
    """Compose an evaluation, which most arms have in common."""
    with compose("evaluate", ["ckpt_path=checkpoint", *words]):
        pass


def _words(text: Any, key: str) -> list[str]:
    """Overrides in one text."""
    if not isinstance(text, str):
        raise AtrousError(f"{key}={text!r} must be a text: overrides, as on a command line")
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise AtrousError(f"{key}={text!r} is no list of overrides ({error})") from error
    for word in words:
        if word.lstrip("+~").partition("=")[0] in _SET_BY_THE_SWEEP:
            raise AtrousError(f"{key}: {word!r} is set by the sweep: leave it out")
    return words


def _digest(recipe: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits that are the same for trainings that differ in their seed alone."""
    decisive = decides_the_curve(recipe)
    decisive.pop("name", None)
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:12]
