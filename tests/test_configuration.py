"""Every file of ``conf/`` that a user can choose composes and resolves, whatever machine it is meant for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

CONF = Path(__file__).parents[1] / "conf"
GROUPS = (
    "backbone",
    "model",
    "upsampler",
    "data",
    "augment",
    "loss",
    "optimizer",
    "scheduler",
    "inference",
    "callbacks",
    "logger",
    "trainer",
)
CHOICES = [
    f"{group}={path.stem}" for group in (*GROUPS, "experiment") for path in sorted((CONF / group).glob("*.yaml"))
]


@pytest.mark.parametrize("choice", [*CHOICES, "debug=default"])
def test_every_choice_composes(choice: str, composed: Callable[..., DictConfig]) -> None:
    extra = ["backbone.name=resnet18"] if choice == "backbone=timm" else []
    extra += ["init_from=null"] if choice.startswith("experiment=") else []  # second stages need a first one's weights
    config = composed("train", choice, *extra)
    plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(plain, dict)
    assert plain["trainer"]["max_steps"] > 0
    assert plain["data"]["validate_every"] == plain["validate_every"]
