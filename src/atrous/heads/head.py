"""What every head promises to the Segmentor."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Head(nn.Module, ABC):
    """Features of a backbone become class scores.

    Heads are constructed with the keyword arguments ``features`` (the backbone's ``FeatureSpec``s), ``grid`` (its
    grid), ``output_stride`` and ``num_classes``, besides their own.
    """

    @abstractmethod
    def set_output_stride(self, output_stride: int) -> None:
        """Follow a change of the backbone's output stride, with the same weights."""

    @abstractmethod
    def forward(self, features: list[Tensor]) -> Tensor:
        """Compute scores B×C×h×w from the backbone's maps, fine to coarse; the maps are left unchanged."""
