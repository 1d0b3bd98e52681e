"""A model as the hub keeps it: weights as safetensors, the card as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from atrous.atomic_file import atomic_file
from atrous.checkpoints.card import Card
from atrous.errors import AtrousError
from atrous.hub import CARD, WEIGHTS


def read_hub_folder(folder: Path) -> tuple[Card, dict[str, Tensor]]:
    """Read the card and the Segmentor's state dict, as plain data.

    Raises:
        AtrousError: A file is missing, damaged or not ours.
    """
    try:
        card = Card.of({Card.KEY: json.loads((folder / CARD).read_text(encoding="utf-8"))}, str(folder / CARD))
        return card, load_file(folder / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        if isinstance(error, AtrousError):
            raise
        raise AtrousError(f"{folder} holds no model that can be read ({error}): it is damaged") from error


def write_hub_folder(folder: Path, card: Card, weights: Mapping[str, Tensor]) -> None:
    """Write them; each file appears whole or not at all.

    Raises:
        OSError: The disk is full or cannot be written to.
    """
    with atomic_file(folder / WEIGHTS) as file:
        file.write(save({name: tensor.contiguous() for name, tensor in weights.items()}, metadata={"format": "pt"}))
    with atomic_file(folder / CARD) as file:
        file.write(json.dumps(card.to_dict(), indent=2).encode())
