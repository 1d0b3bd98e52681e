"""Dense CRFs by pydensecrf, in processes of their own: what the others are measured by."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from atrous.crf.backend import Backend, Prepared
from atrous.crf.kernels import Bilateral, Gaussian, Kernel, Normalization
from atrous.crf.mean_field import Pairwise
from atrous.errors import AtrousError

_NORMALIZATIONS = {
    "symmetric": "NORMALIZE_SYMMETRIC",
    "after": "NORMALIZE_AFTER",
    "before": "NORMALIZE_BEFORE",
    "none": "NO_NORMALIZATION",
}


class _Term(NamedTuple):
    """A kernel in pydensecrf's words; without color it is the one of places alone."""

    sigma_xy: float
    sigma_rgb: float | None
    compatibility: Any
    normalization: str


class PydensecrfBackend(Backend):
    """By default a process for every processor: pydensecrf computes on one and holds the interpreter's lock meanwhile.

    Args:
        processes: How many; 0 for this one alone, ``None`` for one for every processor.
    """

    name = "pydensecrf"

    def __init__(self, processes: int | None = None) -> None:
        self._processes = os.cpu_count() or 1 if processes is None else processes

    def prepare(self, image: Tensor, kernels: Sequence[Kernel], normalization: Normalization) -> Prepared:
        """See ``Backend``.

        Raises:
            AtrousError: It is not installed, or it has no such kernel.
        """
        if importlib.util.find_spec("pydensecrf") is None:
            raise AtrousError(
                "crf.backend=pydensecrf needs pydensecrf2, which is not installed: pip install pydensecrf2, with a C++ "
                "compiler at hand, or leave crf.backend=torch, which gives the same"
            )
        return _Images(image, kernels, normalization, self._processes)


class _Images(Prepared):
    """Pictures as they are: pydensecrf keeps nothing from one call to the next."""

    def __init__(self, image: Tensor, kernels: Sequence[Kernel], normalization: Normalization, processes: int) -> None:
        self._processes = processes
        batch, _, height, width = image.shape
        self.shape = (batch, height, width)
        self._pictures = image.round().to("cpu", torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
        self._kernels = kernels
        self._normalization = _NORMALIZATIONS[normalization]

    def solve(self, scores: Tensor, pairwise: Pairwise) -> Tensor:
        """See ``Prepared``; logits are logarithms of probabilities.

        Raises:
            AtrousError: There is no such kernel or matrix, or a gradient is asked for.
        """
        if torch.is_grad_enabled() and pairwise.learns(scores):
            raise AtrousError("pydensecrf gives no gradients: set crf.backend=torch to train")
        if pairwise.prune is not None or pairwise.storage != "float32":
            raise AtrousError("pydensecrf takes all labels in float32: leave out crf.prune and crf.storage")
        terms = [
            _term(kernel, weight, pairwise.compatibility, self._normalization)
            for kernel, weight in zip(self._kernels, pairwise.weights, strict=True)
        ]
        energies = -scores.detach().float().cpu().numpy()
        tasks = [
            (energy, picture, terms, pairwise.iterations)
            for energy, picture in zip(energies, self._pictures, strict=True)
        ]
        each = _pool(self._processes).map(_solve, tasks) if self._processes else map(_solve, tasks)
        solved = torch.from_numpy(np.stack(list(each)))
        return solved.to(scores).clamp(min=torch.finfo(torch.float32).tiny).log()


def _term(kernel: Kernel, weight: Tensor, compatibility: Tensor | None, normalization: str) -> _Term:
    if isinstance(kernel, Bilateral):
        sigmas: tuple[float, float | None] = (kernel.sigma_xy, kernel.sigma_rgb)
    elif isinstance(kernel, Gaussian):
        sigmas = (kernel.sigma, None)
    else:
        raise AtrousError(f"pydensecrf has no kernel {type(kernel).__name__}: set crf.backend=torch")
    return _Term(*sigmas, _in_their_words(weight, compatibility), normalization)


def _in_their_words(weight: Tensor, compatibility: Tensor | None) -> Any:
    """A number is a reward, several are the diagonal of a matrix of penalties, which is made symmetric.

    Raises:
        AtrousError: The matrix is not symmetric.
    """
    if compatibility is None and weight.dim() == 0:
        return float(weight)
    if weight.dim() < 2 and (compatibility is None or compatibility.dim() < 2):
        gain = weight if compatibility is None else weight * compatibility
        return (-gain).float().numpy()
    mixing = torch.diag(weight.expand(len(compatibility))) if weight.dim() < 2 and compatibility is not None else weight
    if compatibility is None:
        penalty = -mixing
    else:
        penalty = (-torch.diag(compatibility) if compatibility.dim() == 1 else compatibility) @ mixing
    if not torch.allclose(penalty, penalty.t()):
        raise AtrousError(
            "pydensecrf takes symmetric matrices only, and the product of compatibility and kernel weights is none: "
            "set crf.backend=torch"
        )
    return penalty.float().numpy()


@cache
def _pool(processes: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(processes, mp_context=get_context("spawn"))


def _solve(task: tuple[Any, Any, Sequence[_Term], int]) -> Any:
    """Probabilities C×H×W of one image, in a process of the pool."""
    from pydensecrf import densecrf

    energy, picture, terms, iterations = task
    classes, height, width = energy.shape
    crf = densecrf.DenseCRF2D(width, height, classes)
    crf.setUnaryEnergy(np.ascontiguousarray(energy.reshape(classes, -1)))
    for term in terms:
        about = {
            "compat": term.compatibility,
            "kernel": densecrf.DIAG_KERNEL,
            "normalization": getattr(densecrf, term.normalization),
        }
        if term.sigma_rgb is None:
            crf.addPairwiseGaussian(sxy=term.sigma_xy, **about)
        else:
            crf.addPairwiseBilateral(sxy=term.sigma_xy, srgb=term.sigma_rgb, rgbim=picture, **about)
    return np.array(crf.inference(iterations)).reshape(energy.shape)
