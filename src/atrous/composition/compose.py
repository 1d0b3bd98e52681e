"""A configuration from the files and some overrides, without a command line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from atrous.composition.resolvers import register_resolvers
from atrous.errors import AtrousError, first_line
from atrous.places import CONFIGURATION, quoted


@contextlib.contextmanager
def compose(config_name: str, words: Sequence[str]) -> Iterator[DictConfig]:
    """Compose a configuration; its values can be read within the block.

    Hydra's earlier state, in a notebook for example, is restored afterward.

    Args:
        config_name: The configuration in ``conf/``.
        words: Overrides, as on a command line.

    Raises:
        AtrousError: An override is wrong, or a value refers to one that does not exist.
    """
    register_resolvers()
    before, settings = GlobalHydra.instance().hydra, HydraConfig.instance().cfg
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(CONFIGURATION), version_base="1.3"):
            config = hydra.compose(config_name, list(words), return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        with open_dict(config):
            del config["hydra"]
        yield config
    except (HydraException, OmegaConfBaseException) as error:
        raise AtrousError(f"{' '.join(words)}: {first_line(error)}") from error
    finally:
        GlobalHydra.instance().clear()
        GlobalHydra.instance().hydra = before
        HydraConfig.instance().cfg = settings


def compose_again(words: Sequence[str], *, run: str) -> DictConfig:
    """This job's configuration with further overrides in place of those of the same keys; all values are resolved.

    Args:
        words: The further overrides.
        run: Folder of the run.

    Raises:
        AtrousError: An override is wrong.
    """
    job = HydraConfig.get()
    parser = OverridesParser.create()
    try:
        now = {(each.key_or_group, each.package) for each in parser.parse_overrides(list(words))}
        said = parser.parse_overrides(list(job.overrides.task))
    except HydraException as error:
        raise AtrousError(f"{' '.join(words)}: {first_line(error)}") from error
    now.add(("paths.run", None))
    kept = [str(each.input_line) for each in said if (each.key_or_group, each.package) not in now]
    kept.append(f"paths.run={quoted(run)}")
    with compose(str(job.job.config_name), [*kept, *words]) as again:
        OmegaConf.resolve(again)
        return again
