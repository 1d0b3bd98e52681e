"""Dense CRFs with PyTorch's operators, on any device."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from atrous.crf.backend import Backend, Prepared
from atrous.crf.filter import Filter, LatticeFilter, NeighborFilter
from atrous.crf.kernels import FeatureKernel, Kernel, Neighbors, Normalization
from atrous.crf.lattice import build_lattice
from atrous.crf.mean_field import Pairwise, mean_field
from atrous.errors import AtrousError

_SIZES = 4
"""Image sizes whose kernels are kept."""


class Filters(Prepared):
    """The filters of some images.

    Args:
        shape: Batch, height and width.
        groups: Filters of every kernel, for as many equal groups of images.
    """

    def __init__(self, shape: tuple[int, int, int], groups: Sequence[Sequence[Filter]]) -> None:
        self.shape = shape
        self._groups = groups

    def solve(self, scores: Tensor, pairwise: Pairwise) -> Tensor:
        """See ``Prepared``."""
        classes = scores.shape[1]
        rows = scores.flatten(2).transpose(1, 2).reshape(len(self._groups), -1, classes)  # groups×pixels×C
        solved = [
            self.solve_group(own, kernels, pairwise) for own, kernels in zip(rows.unbind(), self._groups, strict=True)
        ]
        batch, height, width = self.shape
        return torch.stack(solved).view(batch, height, width, classes).permute(0, 3, 1, 2).contiguous()

    def solve_group(self, scores: Tensor, kernels: Sequence[Filter], pairwise: Pairwise) -> Tensor:
        """Mean-field inference for one group, N×C."""
        return mean_field(scores.contiguous(), kernels, pairwise)


class TorchBackend(Backend):
    """A lattice for each image on a CPU, and one for the whole batch elsewhere, where many small steps cost most."""

    name = "torch"

    def __init__(self) -> None:
        self._kept = functools.lru_cache(maxsize=_SIZES)(self._filter_of_size)

    def prepare(self, image: Tensor, kernels: Sequence[Kernel], normalization: Normalization) -> Filters:
        """See ``Backend``."""
        batch, _, height, width = image.shape
        groups = [
            [self._filter(kernel, images, normalization) for kernel in kernels]
            for images in torch.split(image, 1 if image.device.type == "cpu" else batch)
        ]
        return Filters((batch, height, width), groups)

    def _filter(self, kernel: Kernel, image: Tensor, normalization: Normalization) -> Filter:
        if isinstance(kernel, Neighbors):
            return NeighborFilter(image, kernel, normalization)
        if not isinstance(kernel, FeatureKernel):
            raise AtrousError(f"nothing computes a kernel {type(kernel).__name__}: derive it from FeatureKernel")
        if kernel.of_image:
            return self.make_filter(kernel.features(image), normalization)
        # the weight is no part of the filter
        return self._kept(replace(kernel, weight=1.0), normalization, image.shape, image.device)

    def _filter_of_size(
        self, kernel: FeatureKernel, normalization: Normalization, shape: torch.Size, device: torch.device
    ) -> Filter:
        blank = torch.zeros((), device=device).expand(shape)
        return self.make_filter(kernel.features(blank), normalization)

    def make_filter(self, features: Tensor, normalization: Normalization) -> Filter:
        """A filter over all pixels of features B×N×d."""
        return LatticeFilter(build_lattice(features), normalization)
