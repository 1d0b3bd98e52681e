"""From a command line to a function: how every command composes its configuration and ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import hydra
from omegaconf import DictConfig

from atrous.composition.exits import exit_with_one_sentence
from atrous.composition.resolvers import register_resolvers
from atrous.places import CONFIGURATION


def entry_point(config_name: str) -> Callable[[Callable[[DictConfig], None]], Callable[[], None]]:
    """Decorate a function of a configuration: called without arguments, it takes them from the command line.

    Args:
        config_name: The configuration in ``conf/`` that the command line is about.
    """

    def decorate(run: Callable[[DictConfig], None]) -> Callable[[], None]:
        register_resolvers()
        compose = hydra.main(version_base="1.3", config_path=str(CONFIGURATION), config_name=config_name)
        return cast(Callable[[], None], compose(exit_with_one_sentence(run)))

    return decorate
