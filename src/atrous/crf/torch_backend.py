"""Dense CRFs with PyTorch's operators, on any device."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from atrous.crf.approximations import without_unlikely
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
        self.groups = groups

    def solve(self, scores: Tensor, pairwise: Pairwise) -> Tensor:
        """See ``Prepared``."""
        solved = []
        images = self.shape[0] // len(self.groups)
        for own, kernels in zip(torch.split(scores, images), self.groups, strict=True):
            solve = functools.partial(self.solve_group, kernels)
            if pairwise.prune is None:
                solved.append(solve(own, pairwise))
            else:
                solved.append(without_unlikely(own, pairwise, solve, least=pairwise.prune))
        return torch.cat(solved)

    def solve_group(self, kernels: Sequence[Filter], scores: Tensor, pairwise: Pairwise) -> Tensor:
        """Mean-field inference for the images of a group, b×C×H×W.

        Raises:
            AtrousError: Numbers cannot be stored so.
        """
        if pairwise.storage != "float32":
            raise AtrousError(
                f"crf.storage={pairwise.storage} is for backend=native, without gradients and numbers for pairs of "
                "classes: set float32"
            )
        batch, classes, height, width = scores.shape
        rows = scores.permute(0, 2, 3, 1).reshape(-1, classes).contiguous()  # N×C
        solved = mean_field(rows, kernels, pairwise)
        return solved.view(batch, height, width, classes).permute(0, 3, 1, 2).contiguous()


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
