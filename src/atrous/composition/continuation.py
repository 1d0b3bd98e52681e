"""The command line of a resumed run: its original overrides and the new ones."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from atrous.composition.compose import compose
from atrous.errors import AtrousError
from atrous.places import CONFIGURATION, command, quoted
from atrous.runs import CHECKPOINTS, checkpoint_to_continue, newest_run

if TYPE_CHECKING:
    from atrous.checkpoints.card import Card

ARCHITECTURE = "auto_deeplab"
"""The task of ``search`` that is a training, and continues like one."""


def command_to_continue(recipe: Mapping[str, Any]) -> str:
    """The command that a run of this configuration goes on with, before its ``ckpt_path``."""
    return f"{command('search')} task={ARCHITECTURE}" if "search" in recipe else command("train")


def continue_recorded_run(argv: Sequence[str], *, config_name: str = "train") -> list[str]:
    """Complete the command line of a resumed run with its original overrides.

    ``ckpt_path=last`` becomes the file that it means. New overrides replace the original ones; whether
    they may differ is decided later, when both are whole configurations.

    Args:
        argv: Arguments without the program's name.
        config_name: The configuration that the command line is about.

    Raises:
        AtrousError: There is nothing to continue, it is of another command, or the record names code.
    """
    try:
        arguments = get_args_parser().parse_args(list(argv))
        said = OverridesParser.create().parse_overrides(arguments.overrides)
    except HydraException:
        return list(argv)  # Hydra reports what is wrong with it
    asked = {each.input_line: each.value() for each in said if each.key_or_group == "ckpt_path"}
    if not any(asked.values()) or arguments.multirun:
        return list(argv)
    from atrous.checkpoints.resume import read_starting_point  # only who continues a run waits for PyTorch here

    wanted = str([*asked.values()][-1])
    path = _newest_run(arguments.overrides, config_name) if wanted == "last" else Path(wanted)
    path = checkpoint_to_continue(path).absolute()
    kept = [word for word in argv if word not in asked]
    point = read_starting_point(path)
    if point.damaged:
        print(f"{point.damaged}; going on from the one before it, at step {point.step}", file=sys.stderr)
    path, card = point.path, point.card
    if ("search" in card.recipe) != (config_name != "train"):
        raise AtrousError(
            f"another command wrote {path}: continue with `{command_to_continue(card.recipe)} "
            f"{shlex.quote(f'ckpt_path={path.parent.parent}')}`"
        )
    recorded = recorded_overrides(card, besides=said)
    return [*kept, f"ckpt_path={quoted(str(path))}", *recorded]


def _newest_run(words: Sequence[str], config_name: str) -> Path:
    """Folder of the newest run with the name that a command line gives."""
    with compose(config_name, words) as config:
        name, runs = config.name, Path(config.paths.runs) / str(config.name)
    run = newest_run(runs)
    if run is None:
        raise AtrousError(
            f"ckpt_path=last found no run of {name!r} under {runs.parent}: start it without ckpt_path, or give "
            "name=<that of the run>"
        )
    if not (run / CHECKPOINTS / "last.ckpt").is_file():
        raise AtrousError(
            f"ckpt_path=last means the newest run of {name!r}, {run}, which has no checkpoint yet: wait for it, or "
            "name an older run by ckpt_path=<run folder>"
        )
    return run


def recorded_overrides(card: Card, *, besides: Sequence[Override] = ()) -> list[str]:
    """Original overrides of a checkpoint's run, except those that are given now.

    Raises:
        AtrousError: The record names code, or a file that may name code.
    """
    now = {(each.key_or_group, each.package) for each in besides}
    repeated = {each.input_line for each in besides}
    recorded = []
    for line in card.overrides:
        if line in repeated or line.startswith("sweep="):  # the run is one point of the sweep
            continue
        try:
            (each,) = OverridesParser.create().parse_overrides([line])
            harmless = not line.startswith("-") and _is_data(each)
        except HydraException:
            each, harmless = None, False
        if each is not None and (each.key_or_group, each.package) in now:
            continue
        if not harmless:
            raise AtrousError(
                f"the run was started with {line!r}, which names code or a file to run, so a checkpoint cannot set it: "
                "give it again on the command line"
            )
        recorded.append(line)
    return recorded


def _is_data(override: Override) -> bool:
    """Whether an override is plain data that cannot run code: no target, no resolver, no file but ours."""
    key, value = override.key_or_group, override.value()
    is_group = (CONFIGURATION / key).is_dir()
    words = [*key.split("."), *_words(value)]
    return (
        not override.is_sweep_override()
        and key.split(".")[0].split("/")[0] != "hydra"
        and not any("${" in word or re.fullmatch(r"_\w+_", word) for word in words)
        and not (is_group and any(not re.fullmatch(r"[\w-]*", word) for word in _words(value)))
    )


def _words(value: Any) -> list[str]:
    """Every string in a value, keys included."""
    if isinstance(value, dict):
        return [word for item in value.items() for part in item for word in _words(part)]
    if isinstance(value, list):
        return [word for item in value for word in _words(item)]
    return [value] if isinstance(value, str) else []
