"""What an evaluation is asked for: every checkpoint under every protocol."""

from __future__ import annotations

import copy
import itertools
import shlex
from typing import NamedTuple

from atrous.composition import Config, compose_again
from atrous.composition.parts import said_besides
from atrous.errors import AtrousError
from atrous.places import override

_OF_ALL = ("ckpt_path", "protocols", "output", "paths.run")


class Variant(NamedTuple):
    """One checkpoint under one protocol.

    Attributes:
        label: What distinguishes it from the others.
        config: Its configuration; ``ckpt_path`` is one path.
        overrides: Those that ask for it alone.
    """

    label: str
    config: Config
    overrides: list[str]


def variants(config: Config) -> list[Variant]:
    """The configurations that ``ckpt_path`` and ``protocols`` ask for, in their order.

    A single one writes into the folder of the run, several into numbered folders in it.

    Raises:
        AtrousError: There is none, two are the same, or an override of a protocol is wrong.
    """
    checkpoints = [config.ckpt_path] if isinstance(config.ckpt_path, str) else list(config.ckpt_path)
    protocols = [""] if config.protocols is None else list(config.protocols)
    for key, values in (("ckpt_path", checkpoints), ("protocols", protocols)):
        if not values:
            raise AtrousError(f"{key}=[] asks for nothing: name one or more")
        if len(set(values)) < len(values):
            raise AtrousError(f"{key}={values} names one of them twice")
    pairs = list(itertools.product(checkpoints, protocols))
    found = []
    for number, (checkpoint, protocol) in enumerate(pairs, start=1):
        run = str(config.paths.run) if len(pairs) == 1 else f"{config.paths.run}/{number}"
        own = _under(config, protocol, run=run)
        own.ckpt_path = checkpoint
        shown = [checkpoint] * (len(checkpoints) > 1) + [protocol or "as configured"] * (len(protocols) > 1)
        said = [*said_besides(*_OF_ALL), *shlex.split(protocol)]
        found.append(Variant(" · ".join(shown) or checkpoint, own, [override("ckpt_path", checkpoint), *said]))
    return found


def _under(config: Config, protocol: str, *, run: str) -> Config:
    """The configuration under a protocol: overrides of this command in one text, none for the configuration as it is.

    Raises:
        AtrousError: An override is wrong, or sets what is asked for once for all protocols.
    """
    try:
        words = shlex.split(protocol)
    except ValueError as error:
        raise AtrousError(f"protocols: {protocol!r} is no list of overrides ({error})") from error
    for word in words:
        if word.partition("=")[0] in _OF_ALL:
            raise AtrousError(f"protocols: {word!r} is for all protocols together: give it outside")
    if words:
        return compose_again(words, run=run)
    own = copy.deepcopy(config)
    own.paths.run = run
    return own
