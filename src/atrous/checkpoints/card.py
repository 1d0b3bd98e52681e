"""What a checkpoint says about itself."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from atrous.checkpoints.format_1 import upgraded
from atrous.data.label_space import LabelSpace
from atrous.errors import AtrousError, first_line


@dataclass(frozen=True)
class Card:
    """Label space, preprocessing, recipe and score, kept beside the weights as plain data.

    Attributes:
        label_space: The classes.
        preprocessing: How images become inputs.
        recipe: The whole configuration of the run.
        score: Scores with their protocol and step, or ``None`` before the first validation.
        overrides: Command-line overrides of the run, used to start it again.
    """

    KEY: ClassVar[str] = "atrous"
    FORMAT: ClassVar[int] = 2

    label_space: LabelSpace
    preprocessing: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    score: dict[str, Any] | None = None
    overrides: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings."""
        return {
            "format": self.FORMAT,
            "label_space": self.label_space.to_dict(),
            "preprocessing": self.preprocessing,
            "recipe": self.recipe,
            "score": self.score,
            "overrides": list(self.overrides),
        }

    @classmethod
    def of(cls, checkpoint: Mapping[str, Any], where: str = "the checkpoint") -> Card:
        """Read the card of a loaded checkpoint.

        Raises:
            AtrousError: It has none, or one of a newer format.
        """
        plain = checkpoint.get(cls.KEY)
        if not isinstance(plain, Mapping) or "format" not in plain:
            raise AtrousError(f"{where} was not written by Atrous: it has no label space and recipe")
        try:
            if plain["format"] > cls.FORMAT:
                raise AtrousError(
                    f"{where} has format {plain['format']}, newer than this version's {cls.FORMAT}: update Atrous"
                )
            return cls(
                label_space=LabelSpace.from_dict(plain["label_space"]),
                preprocessing=dict(plain["preprocessing"]),
                recipe=upgraded(plain["recipe"]) if plain["format"] == 1 else dict(plain["recipe"]),
                score=plain["score"],
                overrides=tuple(str(each) for each in plain.get("overrides", ())),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise AtrousError(f"{where} has a card that cannot be read ({error}): it is damaged") from error


def read_checkpoint(path: str | Path) -> tuple[Card, dict[str, Tensor]]:
    """Read card and network weights of a checkpoint, as plain data only.

    Returns:
        The card and the Segmentor's state dict (averaged weights where the run kept an average).

    Raises:
        AtrousError: The file is missing, broken or not ours.
    """
    checkpoint = load_plain(path)
    card = Card.of(checkpoint, str(path))
    return card, segmentor_weights(checkpoint, str(path))


def segmentor_weights(checkpoint: Mapping[str, Any], where: str = "the checkpoint") -> dict[str, Tensor]:
    """The Segmentor's state dict in a loaded checkpoint.

    Raises:
        AtrousError: It has none.
    """
    state = checkpoint.get("state_dict")
    if not isinstance(state, Mapping) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise AtrousError(f"{where} holds no weights: it has a label space and a recipe but no state dict")
    prefix = "segmentor."
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def require_same_classes(checkpoint: LabelSpace, data: LabelSpace) -> None:
    """Refuse to use weights on a data set with other classes.

    Raises:
        AtrousError: The names of the classes differ.
    """
    if checkpoint.classes != data.classes:
        raise AtrousError(
            f"the checkpoint knows the {checkpoint.num_classes} classes of {checkpoint.name!r}, the data set has the "
            f"{data.num_classes} of {data.name!r}: choose the data set that it was trained on, or train a new run from "
            "its weights with init_from=<checkpoint or run folder>"
        )


def load_plain(path: str | Path) -> dict[str, Any]:
    """Read a PyTorch file with ``weights_only=True`` onto the CPU, after checking its checksums.

    Raises:
        AtrousError: The file is missing or damaged, or cannot be read as plain data.
    """
    if not Path(path).is_file():
        raise AtrousError(f"there is no checkpoint {path}")
    try:
        _require_whole(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise AtrousError(
            f"{path} is not a checkpoint that can be read as plain data: it is damaged, or holds more than tensors, "
            "numbers, strings, lists and mappings"
        ) from error
    except AtrousError:
        raise
    except Exception as error:
        raise AtrousError(f"{path} is not a checkpoint that can be read as plain data ({first_line(error)})") from error
    if not isinstance(loaded, dict):
        raise AtrousError(f"{path} is not a checkpoint: it holds a {type(loaded).__name__}")
    return loaded


def _require_whole(path: str | Path) -> None:
    """Compare every record with its CRC-32, which PyTorch writes beside it but does not check when reading.

    Files from before PyTorch 1.6 are not archives and have no checksums.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise AtrousError(f"{path} is damaged: the checksum of its record {damaged} does not fit; use another copy")
