"""A search for an architecture, as the training that it is."""

from __future__ import annotations

from typing import cast

from omegaconf import DictConfig, OmegaConf, open_dict

from atrous.composition.build import require_types
from atrous.composition.parts import build_data
from atrous.data import SearchDataModule
from atrous.errors import AtrousError, require_range

_TYPES = {"search.epochs": int, "search.warmup_epochs": int, "search.strategy": str, "validate_every": int | None}


def as_training(config: DictConfig) -> DictConfig:
    """The configuration of ``train`` for a search: epochs become steps, and what learns is its ``task``.

    Args:
        config: A configuration of ``search_auto_deeplab``.

    Raises:
        AtrousError: A number is out of range, steps are given beside epochs, or batch norms are to be synchronized.
    """
    require_types(config, _TYPES)
    require_range("search.epochs", config.search.epochs, at_least=1)
    require_range("search.warmup_epochs", config.search.warmup_epochs, at_least=0)
    if config.trainer.max_steps is not None:
        raise AtrousError(
            f"trainer.max_steps={config.trainer.max_steps} has no effect on a search, whose length is search.epochs"
        )
    if config.trainer.get("sync_batchnorm"):
        raise AtrousError(
            "batch norms of a network that is being searched keep to their process: set trainer.sync_batchnorm=false"
        )
    if config.search.strategy == "gradient" and config.search.warmup_epochs >= config.search.epochs:
        raise AtrousError(
            f"search.warmup_epochs={config.search.warmup_epochs} leaves the architecture none of the "
            f"search.epochs={config.search.epochs} to learn in: choose fewer"
        )
    training = cast(DictConfig, OmegaConf.create(OmegaConf.to_container(config)))
    OmegaConf.set_struct(training, True)
    with open_dict(training):
        training.task = training.pop("bilevel")
    every = training.validate_every
    training.validate_every = 1  # until the data say how long an epoch is
    epoch = cast(SearchDataModule, build_data(training.data)).steps_per_epoch
    training.validate_every = epoch if every is None else every
    training.trainer.max_steps = training.search.epochs * epoch
    learns = training.search.strategy == "gradient"
    training.data.architecture_from = training.search.warmup_epochs * epoch if learns else None
    return training
