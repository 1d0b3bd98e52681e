"""Dense CRFs on the CPU by a compiled kernel: ``permutohedral.cpp``."""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from atrous.crf.filter import Filter, normalizers
from atrous.crf.kernels import Kernel, Normalization
from atrous.crf.lattice import scales_of
from atrous.crf.mean_field import Pairwise, Storage
from atrous.crf.torch_backend import Filters, TorchBackend
from atrous.errors import AtrousError
from atrous.native import load_native, pointers

_LANES = 8
_MOST_DIMENSIONS = 15
_MOST_BLOCKS = 4
_AHEAD = 4
"""Pixels beyond the last one whose corners may be looked at."""


@functools.cache
def library() -> ctypes.CDLL | None:
    """The kernel, built when it is first asked for; ``None`` where it cannot be built."""
    native = load_native(Path(__file__).with_name("permutohedral.cpp"))
    if native is not None:
        native.begin_lattice.restype = ctypes.c_void_p
    return native


class _Embedding(ctypes.Structure):
    """Matches the structure in ``permutohedral.cpp``."""

    _fields_: ClassVar = [
        *((name, ctypes.c_int64) for name in ("pixels", "dimensions", "threads")),
        ("scales", ctypes.c_void_p),
        ("down", ctypes.c_float),
        ("low", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
    ]


class _Kernel(ctypes.Structure):
    """Matches the structure in ``permutohedral.cpp``."""

    _fields_: ClassVar = [
        ("size", ctypes.c_int64),
        ("corners", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("vertices", "starts", "pixels", "into", "out_of", "chains", "lengths")),
    ]


class _Problem(ctypes.Structure):
    """Matches the structure in ``permutohedral.cpp``."""

    _fields_: ClassVar = [
        *(
            (name, ctypes.c_int64)
            for name in ("pixels", "classes", "groups", "blocks", "kernels", "iterations", "threads")
        ),
        ("weights", ctypes.c_void_p),
        ("rows", ctypes.c_void_p),
    ]


class NativeFilter:
    """A Gaussian kernel over the pixels of one image, normalized; see ``Filter``.

    Args:
        features: N×d, float32, on the CPU.
        normalization: How the sums of all pixels are brought to a common scale.

    Raises:
        AtrousError: Features lie so far apart that vertices cannot be numbered.
    """

    def __init__(self, features: Tensor, normalization: Normalization) -> None:
        self._pixels, dimensions = features.shape
        corners = dimensions + 1
        planes = features.t().contiguous()
        low, strides = _numbering(planes)
        scales = torch.tensor(scales_of(dimensions), dtype=torch.float32)
        threads = torch.get_num_threads()
        embedding = _Embedding(self._pixels, dimensions, threads, None, float(torch.tensor(1.0) / corners))
        embedding.scales, embedding.low, embedding.strides = (each.data_ptr() for each in (scales, low, strides))
        vertices = torch.zeros(self._pixels + _AHEAD, corners, dtype=torch.int32)
        shares = torch.empty(self._pixels, corners)
        size = ctypes.c_int64()
        native = _native()
        begun = native.begin_lattice(ctypes.byref(embedding), *pointers([planes, vertices, shares]), ctypes.byref(size))
        self._size = size.value
        pixels = torch.empty(self._pixels * corners, dtype=torch.int32)
        into = torch.empty(self._pixels * corners)
        starts = torch.empty(self._size + 1, dtype=torch.int32)
        chains = torch.empty(corners * self._size + 1, dtype=torch.int32)
        lengths = torch.empty(corners, dtype=torch.int64)
        native.finish_lattice(
            ctypes.c_void_p(begun),
            *pointers([vertices, shares, starts, pixels, into, chains, lengths]),
            ctypes.c_int64(threads),
        )
        self._indices = vertices, starts, pixels, chains, lengths
        self._shares = into, shares / (1 + 2.0**-dimensions)
        self._scales: tuple[Tensor | float, Tensor | float] = (1.0, 1.0)
        self._forth = self._shares
        sums = self._apply(self._forth, torch.ones(1, self._pixels, _LANES))[0, :, :1]
        self._scales = normalizers(sums, normalization)
        self._forth = self._weighted(*self._scales)
        self._back = self._forth if self._scales[0] is self._scales[1] else None

    def __call__(self, values: Tensor, *, transposed: bool = False) -> Tensor:
        """See ``Filter``; computed in float32."""
        if transposed and self._back is None:
            self._back = self._weighted(*self._scales[::-1])
        weights = self._back if transposed else self._forth
        assert weights is not None
        classes = values.shape[1]
        groups, blocks = _groups(classes)
        rows = values.float()
        if more := groups * blocks * _LANES - classes:
            rows = F.pad(rows, (0, more))
        rows = rows.view(self._pixels, groups, -1).transpose(0, 1).contiguous()  # groups×N×(blocks·8)
        result = self._apply(weights, rows, transposed=transposed)
        return result.transpose(0, 1).reshape(self._pixels, -1)[:, :classes].to(values.dtype)

    @property
    def size(self) -> int:
        """Number of vertices of the lattice."""
        return self._size

    def structure(self) -> _Kernel:
        """What C++ gets; this object must live as long."""
        return self._structure(self._forth)

    def _structure(self, weights: tuple[Tensor, Tensor]) -> _Kernel:
        vertices, starts, pixels, chains, lengths = self._indices
        tensors = (vertices, starts, pixels, *weights, chains, lengths)
        return _Kernel(self._size, vertices.shape[1], *pointers(tensors))

    def _weighted(self, before: Tensor | float, after: Tensor | float) -> tuple[Tensor, Tensor]:
        """Weights of splatting by vertex, and of slicing by pixel."""
        into, out_of = self._shares
        pixels = self._indices[2]
        before = before.flatten().index_select(0, pixels) if isinstance(before, Tensor) else before
        return into * before, out_of * after

    def _apply(self, weights: tuple[Tensor, Tensor], rows: Tensor, *, transposed: bool = False) -> Tensor:
        groups, _, width = rows.shape
        grid, result = torch.empty(groups, self._size, width), torch.empty_like(rows)
        kernel = self._structure(weights)
        _native().filter(
            ctypes.byref(kernel),
            *pointers([rows, grid, result]),
            *(ctypes.c_int64(number) for number in (self._pixels, groups, width // _LANES)),
            ctypes.c_int32(transposed),
            ctypes.c_int64(torch.get_num_threads()),
        )
        return result


class NativeFilters(Filters):
    """The filters of some images, one group for each."""

    def solve_group(self, kernels: Sequence[Filter], scores: Tensor, pairwise: Pairwise) -> Tensor:
        """See ``Filters``."""
        natives = [kernel for kernel in kernels if isinstance(kernel, NativeFilter)]
        gains = _gains(pairwise, scores.shape[1])
        alone = not (torch.is_grad_enabled() and pairwise.learns(scores))
        if len(natives) < len(kernels):
            return super().solve_group(kernels, scores, pairwise)
        if gains is None or not alone or scores.dtype != torch.float32:
            return self._solve_step_by_step(kernels, scores, pairwise)
        if not natives or pairwise.iterations == 0:
            return scores.clone()
        solved = torch.empty_like(scores, memory_format=torch.contiguous_format)
        _mean_field(scores.detach().contiguous(), natives, gains, pairwise, solved)
        return solved

    def _solve_step_by_step(self, kernels: Sequence[Filter], scores: Tensor, pairwise: Pairwise) -> Tensor:
        """With classes of no probability up to the width of a row, which every filter would add and take away again."""
        classes = scores.shape[1]
        more = math.prod(_groups(classes)) * _LANES - classes
        padded = F.pad(scores, (0, 0, 0, 0, 0, more), value=-math.inf)
        return super().solve_group(kernels, padded, pairwise.padded(more))[:, :classes]


def _groups(classes: int) -> tuple[int, int]:
    """How the numbers of a pixel or vertex are laid out: number of groups, and blocks of 8 numbers in each."""
    total = -(-classes // _LANES)
    groups = -(-total // _MOST_BLOCKS)
    return groups, -(-total // groups)


def _gains(pairwise: Pairwise, classes: int) -> Tensor | None:
    """What each class gains from itself through each kernel, kernels×C; ``None`` if classes affect each other."""
    numbers = [*pairwise.weights, pairwise.compatibility]
    if any(each is not None and each.dim() == 2 for each in numbers):
        return None
    factor = 1.0 if pairwise.compatibility is None else pairwise.compatibility.detach()
    gains = [(weight.detach() * factor).float().expand(classes) for weight in pairwise.weights]
    return torch.stack(gains) if gains else torch.zeros(0, classes)


def _mean_field(
    scores: Tensor, kernels: Sequence[NativeFilter], gains: Tensor, pairwise: Pairwise, result: Tensor
) -> None:
    """All of mean-field inference for one image, 1×C×H×W."""
    classes, pixels = scores.shape[1], scores[0, 0].numel()
    groups, blocks = _groups(classes)
    width = groups * blocks * _LANES
    weights = F.pad(gains, (0, width - classes)).contiguous()
    rows = torch.empty(pixels, width)
    kind = _stored(pairwise.storage)
    beliefs = torch.empty(pixels, width, dtype=kind)
    grids = [torch.empty(kernel.size, width, dtype=kind) for kernel in kernels]
    structures = (_Kernel * len(kernels))(*(kernel.structure() for kernel in kernels))
    problem = _Problem(pixels, classes, groups, blocks, len(kernels), pairwise.iterations, torch.get_num_threads())
    problem.weights, problem.rows = weights.data_ptr(), rows.data_ptr()
    _native()[f"mean_field_{pairwise.storage}"](
        ctypes.byref(problem),
        structures,
        *pointers([scores, beliefs]),
        (ctypes.c_void_p * len(grids))(*pointers(grids)),
        *pointers([result]),
    )


def _stored(storage: Storage) -> torch.dtype:
    """How beliefs are kept.

    Raises:
        AtrousError: The processor has no instructions for half precision.
    """
    if storage == "float32":
        return torch.float32
    if not _native().has_half_precision():
        raise AtrousError("crf.storage=float16 needs a processor that converts half precision: set float32")
    return torch.float16


class NativeBackend(TorchBackend):
    """Several times as fast as PyTorch's operators, where there is a C++ compiler and the image is on a CPU."""

    name = "native"

    def prepare(self, image: Tensor, kernels: Sequence[Kernel], normalization: Normalization) -> Filters:
        """See ``Backend``.

        Raises:
            AtrousError: It cannot be built, or the image is elsewhere.
        """
        if image.device.type != "cpu":
            raise AtrousError(f"crf.backend=native computes on a CPU, but the image is on {image.device}: set auto")
        if library() is None:
            raise AtrousError("crf.backend=native needs a C++ compiler, and none could be used: set auto or torch")
        filters = super().prepare(image, kernels, normalization)
        return NativeFilters(filters.shape, filters.groups)

    def make_filter(self, features: Tensor, normalization: Normalization) -> Filter:
        """See ``TorchBackend``."""
        if features.shape[2] > _MOST_DIMENSIONS:
            return super().make_filter(features, normalization)
        return NativeFilter(features[0], normalization)


def is_available(device: torch.device) -> bool:
    """Whether images on a device can be refined so."""
    return device.type == "cpu" and library() is not None


def _native() -> ctypes.CDLL:
    native = library()
    assert native is not None
    return native


def _numbering(planes: Tensor) -> tuple[Tensor, Tensor]:
    """The least value of each coordinate of a vertex, and what one more adds to its key.

    Args:
        planes: Features d×N.
    """
    dimensions = len(planes)
    low, high = torch.tensor([[float(bound) for bound in torch.aminmax(plane)] for plane in planes]).double().t()
    scales = torch.tensor(scales_of(dimensions), dtype=torch.float64)
    margin = 4 * dimensions + 4  # rounding, corners and neighbors
    lows, counts = [], []
    for i in range(dimensions):
        # coordinate i is the sum of the scaled features from i on, less i times the one before them
        ends = [(scales[i:] * bound[i:]).sum() for bound in (low, high)]
        before = [i * scales[i - 1] * bound[i - 1] if i else bound.new_zeros(()) for bound in (high, low)]
        least, most = (math.floor(end - less) for end, less in zip(ends, before, strict=True))
        lows.append(least - margin)
        counts.append(most - least + 2 * margin + 1)
    strides = [math.prod(counts[i + 1 :]) for i in range(dimensions)]
    if math.prod(counts) >= 2**62:
        raise AtrousError("the standard deviations of a CRF kernel are too small for this image: use larger ones")
    return torch.tensor(lows, dtype=torch.int64), torch.tensor(strides, dtype=torch.int64)
