"""A batch whose loss is infinite or not a number, with all that its loss was computed from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from atrous.atomic_file import atomic_file
from atrous.checkpoints.card import Card, load_plain
from atrous.errors import AtrousError

_TYPES = {"image": Tensor, "mask": Tensor, "names": tuple, "step": int, "seed": int, "loss": float}


@dataclass(frozen=True)
class KeptBatch:
    """What one step saw, as plain data.

    Attributes:
        card: Recipe of the run, and the words that it was started with.
        weights: Of the task, after the forward pass of the step: statistics of batch norms may be poisoned.
        image: uint8 B×3×H×W, RGB.
        mask: Class ids B×H×W.
        names: Of the images.
        step: Optimizer steps before it.
        seed: Of PyTorch's random numbers in the step.
        loss: What came out.
    """

    KEY: ClassVar[str] = "batch"

    card: Card
    weights: Mapping[str, Tensor]
    image: Tensor
    mask: Tensor
    names: tuple[str, ...]
    step: int
    seed: int
    loss: float

    @property
    def batch(self) -> dict[str, Any]:
        """As training takes it."""
        return {"image": self.image, "mask": self.mask, "name": list(self.names)}

    def write(self, path: Path) -> None:
        """Write a file that a checkpoint's readers take too.

        Raises:
            OSError: The disk is full or cannot be written to.
        """
        content = {name: getattr(self, name) for name in _TYPES}
        with atomic_file(path) as file:
            torch.save({Card.KEY: self.card.to_dict(), "state_dict": dict(self.weights), self.KEY: content}, file)

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read such a file.

        Raises:
            AtrousError: It is missing, damaged or of another kind.
        """
        loaded = load_plain(path)
        content = loaded.get(cls.KEY)
        if not isinstance(content, dict) or not _is_whole(content, loaded.get("state_dict")):
            raise AtrousError(f"{path} holds no batch of a step that failed: give a file of a run's not_finite folder")
        return cls(card=Card.of(loaded, str(path)), weights=loaded["state_dict"], **content)


def _is_whole(content: Mapping[str, object], weights: object) -> bool:
    """Whether every field is there and of its type."""
    fields = content.keys() == _TYPES.keys() and all(isinstance(content[name], kind) for name, kind in _TYPES.items())
    return fields and isinstance(weights, dict)


class Statistics:
    """Running means and variances of a network's batch norms, as they were before a step.

    Args:
        network: Whose.
    """

    def __init__(self, network: nn.Module) -> None:
        norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        self._now = [buffer for norm in norms for buffer in norm.buffers()]
        self._before = [buffer.clone() for buffer in self._now]

    @torch.no_grad()
    def keep(self) -> None:
        """Remember them."""
        for before, now in zip(self._before, self._now, strict=True):
            before.copy_(now)

    @torch.no_grad()
    def restore(self) -> None:
        """Bring back what was remembered."""
        for before, now in zip(self._before, self._now, strict=True):
            now.copy_(before)
