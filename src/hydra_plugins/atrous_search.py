"""Where Hydra looks for sweepers: ``hydra/sweeper=optuna``."""

from __future__ import annotations

from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class OptunaSweeper(Sweeper):
    """Runs whose settings are chosen by what earlier ones have found; see ``atrous.composition.settings_search``.

    Args:
        options: Arguments of ``SettingsSearch``.
    """

    def __init__(self, **options: Any) -> None:
        self._options = options
        self.config: DictConfig | None = None
        self.hydra_context: HydraContext | None = None
        self.launcher: Launcher | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what a sweep needs."""
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Start runs until there are as many as were asked for."""
        from atrous.composition.exits import one_sentence  # Hydra imports this file for every command, help included
        from atrous.composition.settings_search import SettingsSearch

        assert self.config is not None
        assert self.hydra_context is not None
        assert self.launcher is not None
        with one_sentence():
            search = SettingsSearch(self.config, **self._options)
            search.run(arguments, self.launcher, self.hydra_context.config_loader, self.validate_batch_is_legal)
