"""Starting a new run from the weights of another one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from atrous.checkpoints.card import Card, load_plain, read_checkpoint
from atrous.errors import AtrousError
from atrous.models.segmentor import Segmentor


@dataclass(frozen=True)
class Transfer:
    """What happened to every tensor.

    Attributes:
        loaded: Tensors that were copied.
        dropped: Tensors of the checkpoint that the network has no place for, with the reason.
        missing: Tensors of the network that keep their initial values.
    """

    loaded: tuple[str, ...]
    dropped: tuple[str, ...]
    missing: tuple[str, ...]

    def lines(self) -> list[str]:
        """The report, one line per tensor."""
        return [
            f"loaded {len(self.loaded)} tensors",
            *(f"dropped {name}" for name in self.dropped),
            *(f"missing {name}: keeps its initial values" for name in self.missing),
        ]


def transfer_weights(segmentor: Segmentor, path: str | Path) -> Transfer:
    """Load every tensor of a checkpoint whose name and shape fit.

    Args:
        segmentor: The network; changed in place.
        path: An Atrous checkpoint, or a file with a Segmentor's state dict.

    Raises:
        AtrousError: The file cannot be read, or nothing in it fits.
    """
    loaded = load_plain(path)
    if Card.KEY in loaded:
        _, weights = read_checkpoint(path)
    else:
        weights = {name: tensor for name, tensor in loaded.items() if isinstance(tensor, Tensor)}
    report = match_tensors(segmentor.state_dict(), weights)
    if not report.loaded:
        raise AtrousError(f"init_from={path}: none of its {len(weights)} tensors fits this network")
    segmentor.load_state_dict({name: weights[name] for name in report.loaded}, strict=False)
    return report


def match_tensors(target: Mapping[str, Tensor], source: Mapping[str, Tensor]) -> Transfer:
    """Compare two state dicts by name and shape."""
    loaded, dropped = [], []
    for name, tensor in source.items():
        if name not in target:
            dropped.append(f"{name}: the network has no such tensor")
        elif target[name].shape != tensor.shape:
            dropped.append(f"{name}: shape {list(tensor.shape)}, the network's is {list(target[name].shape)}")
        else:
            loaded.append(name)
    missing = sorted(set(target) - set(loaded))
    return Transfer(tuple(loaded), tuple(dropped), tuple(missing))
