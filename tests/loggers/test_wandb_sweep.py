"""The search that W&B's agents do: what they would call composes, and what they maximize is logged."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig


def called(search: dict[str, Any], chosen: dict[str, Any]) -> list[str]:
    """The words that an agent puts in the place of its macros."""
    words: list[str] = []
    for word in search["command"]:
        if word == "${args_no_hyphens}":
            words += [f"{key}={value}" for key, value in chosen.items()]
        else:
            words.append({"${env}": "env", "${interpreter}": "python", "${program}": search["program"]}.get(word, word))
    return words


def test_what_an_agent_calls_composes(repository: Path, composed: Callable[..., DictConfig]) -> None:
    search = yaml.safe_load((repository / "conf" / "wandb_sweep.yaml").read_text(encoding="utf-8"))
    ends = {key: each.get("values") or [each["min"], each["max"]] for key, each in search["parameters"].items()}
    assert not any(isinstance(value, str) and key != "loss" for key, each in ends.items() for value in each)
    for values in itertools.product(*ends.values()):
        env, interpreter, program, *words = called(search, dict(zip(ends, values, strict=True)))
        assert (env, interpreter, program) == ("env", "python", "src/train.py")
        assert (repository / program).is_file()
        config = composed("train", *words)
        assert config.task.learning_rate == values[0]
        assert config.logger.wandb is not None
    assert search["metric"] == {"name": config.callbacks.best.monitor, "goal": "maximize"}
