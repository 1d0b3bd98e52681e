"""From a command line to a function: how every command composes its configuration and ends."""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Callable
from typing import cast

import hydra
from omegaconf import DictConfig

from atrous.composition.exits import exit_with_one_sentence
from atrous.composition.multirun import exit_status, is_multirun, one_of_many
from atrous.composition.resolvers import register_resolvers
from atrous.places import CONFIGURATION


def entry_point(config_name: str, function: str) -> Callable[..., None]:
    """A program: called without arguments, it composes a configuration from the command line and does its work.

    Help and a wrong command line need nothing of the work, so its module is imported last.

    Args:
        config_name: The configuration in ``conf/`` that the command line is about.
        function: Module and name of a function of a configuration, such as ``atrous.commands.train.command:train``.
    """
    register_resolvers()

    def work(config: DictConfig) -> None:
        do = pkgutil.resolve_name(function)
        if is_multirun():
            one_of_many(do, config)
        else:
            do(config)

    work.__module__ = config_name  # what Hydra calls the job
    main = hydra.main(version_base="1.3", config_path=str(CONFIGURATION), config_name=config_name)
    compose = cast(Callable[..., None], main(exit_with_one_sentence(work)))

    def program(*composed: DictConfig) -> None:
        compose(*composed)
        if status := exit_status():
            sys.exit(status)

    return program
