"""Renaming tensors without forgetting any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from atrous.errors import AtrousError

_NORM = ("weight", "bias", "running_mean", "running_var")
_BILINEAR = "atrous.models.upsamplers.Bilinear"


@dataclass(frozen=True)
class Translation:
    """An Atrous network with third-party weights.

    Attributes:
        model: The ``model`` node of a recipe that builds it, as plain data.
        state: State dict of the Segmentor.
        unused: Names of the foreign tensors that have no place in it, with the reason.
        num_classes: Number of classes.
        missing: Name prefixes of our tensors that the source lacks and that keep their random values.
    """

    model: dict[str, Any]
    state: dict[str, Tensor]
    unused: tuple[str, ...]
    num_classes: int
    missing: tuple[str, ...] = ()


class Renaming:
    """Moves tensors from a foreign state dict to one of ours and tracks what is left.

    Args:
        source: Whose tensors they are, for messages.
        foreign: The tensors.

    Attributes:
        state: What has been moved, under our names.
    """

    def __init__(self, source: str, foreign: Mapping[str, Tensor]) -> None:
        self.source = source
        self.state: dict[str, Tensor] = {}
        self._foreign = foreign
        self._taken: set[str] = set()

    def has(self, prefix: str) -> bool:
        """Whether any foreign tensor's name begins with a prefix."""
        return any(name.startswith(prefix) for name in self._foreign)

    def take(self, name: str) -> Tensor:
        """A foreign tensor, which counts as used.

        Raises:
            AtrousError: There is none of this name.
        """
        if name not in self._foreign:
            raise AtrousError(f"these are not weights of a network that source={self.source} knows: no tensor {name!r}")
        self._taken.add(name)
        return self._foreign[name].detach().clone()

    def shape(self, name: str) -> Sequence[int]:
        """Shape of a foreign tensor; it does not count as used.

        Raises:
            AtrousError: There is none of this name.
        """
        if name not in self._foreign:
            raise AtrousError(f"these are not weights of a network that source={self.source} knows: no tensor {name!r}")
        return self._foreign[name].shape

    def all(self, prefix: str, ours: str) -> None:
        """Move every tensor whose name begins with a prefix, and replace the prefix."""
        for name in self._foreign:
            if name.startswith(prefix):
                self.state[ours + name.removeprefix(prefix)] = self.take(name)

    def convolution(self, name: str, ours: str, *, bias: bool = False) -> None:
        """Move a convolution."""
        for kind in ("weight", "bias") if bias else ("weight",):
            self.state[f"{ours}.{kind}"] = self.take(f"{name}.{kind}")

    def norm(self, name: str, ours: str) -> None:
        """Move a batch norm; older files do not count batches."""
        for kind in _NORM:
            self.state[f"{ours}.{kind}"] = self.take(f"{name}.{kind}")
        counter = f"{name}.num_batches_tracked"
        self.state[f"{ours}.num_batches_tracked"] = self.take(counter) if self.has(counter) else torch.tensor(0)

    def block(self, convolution: str, norm: str, ours: str) -> None:
        """Move a convolution and its batch norm to a block of ours."""
        self.convolution(convolution, f"{ours}.0")
        self.norm(norm, f"{ours}.1")

    def separable(self, depthwise: str, pointwise: str, norm: str, ours: str) -> None:
        """Move a separable convolution that has no norm between its two parts."""
        self.convolution(depthwise, f"{ours}.0")
        self.convolution(pointwise, f"{ours}.1")
        self.norm(norm, f"{ours}.2")

    def pooling_first(self, name: str) -> None:
        """Reorder a projection's input channels: image pooling is the source's last branch and our first."""
        weight = self.state[name]
        pooled = weight.shape[0]
        self.state[name] = torch.cat([weight[:, -pooled:], weight[:, :-pooled]], dim=1)

    def left(self, reasons: Mapping[str, str] | None = None) -> tuple[str, ...]:
        """What was not moved, with reasons by name prefix."""
        return tuple(
            name + next((f" ({reason})" for prefix, reason in (reasons or {}).items() if name.startswith(prefix)), "")
            for name in self._foreign
            if name not in self._taken
        )


def model_node(
    *,
    backbone: Mapping[str, Any],
    head: Mapping[str, Any],
    align_corners: bool | None = None,
    auxiliary: Mapping[str, Any] | None = None,
    extend: bool = True,
) -> dict[str, Any]:
    """A ``model`` node with a timm backbone and bilinear upsampling."""
    return {
        "_target_": "atrous.models.Segmentor",
        "backbone": {"_target_": "atrous.models.backbones.TimmBackbone", "pretrained": False, **backbone},
        "head": {"_partial_": True, **head},
        "upsampler": {"_target_": _BILINEAR, "_partial_": True, "align_corners": align_corners},
        "auxiliary": None if auxiliary is None else {"_partial_": True, **auxiliary},
        "extend": extend,
    }


def rates_at_stride_16(rates: Sequence[int], output_stride: int) -> list[int]:
    """Our rates, which are given for output stride 16, from rates at the network's own output stride.

    Raises:
        AtrousError: They do not exist: a rate at output stride 16 would not be a whole number.
    """
    if any(rate * output_stride % 16 for rate in rates):
        raise AtrousError(
            f"rates={list(rates)} at output stride {output_stride} are impossible here: rates follow the output "
            "stride, and at 16 they would not be whole numbers"
        )
    return [int(rate) * output_stride // 16 for rate in rates]
