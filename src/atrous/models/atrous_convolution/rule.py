"""Which way of computing an atrous convolution is the fastest one that is right.

Three tables, one for each pass; the first row that holds decides. They were written from measurements on two kinds of
processors (``docs/convolution.md``): AVX-512 with bf16 instructions, and AVX2 without.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple

import torch

from atrous.models.atrous_convolution.taps import Taps

WAYS = ("auto", "holes", "deinterlaced", "compiled", "torch")


class Way(StrEnum):
    """A way of computing a convolution, forward and backward."""

    HOLES = "holes"
    DEINTERLACED = "deinterlaced"
    COMPILED = "compiled"
    TORCH = "torch"


class Ways(NamedTuple):
    """The way of each pass."""

    forward: Way
    input_gradient: Way
    weight_gradient: Way


@dataclass(frozen=True)
class Case:
    """All that the rule looks at.

    Attributes:
        layer: ``depthwise`` with filters of one channel each, ``full`` with one group, or ``grouped``.
        taps: Its geometry.
        side: Height or width of the map, whichever is less.
        products: Channels of the map times those of the result, in a group.
        precision: Precision of the map.
        device: Type of the device.
        wide_vectors: Whether the processor has AVX-512.
        bf16: Whether it computes in bf16.
        compiled: Whether the kernel of ``depthwise.cpp`` is at hand and is for this layer (one filter a channel).
    """

    layer: Literal["depthwise", "full", "grouped"]
    taps: Taps
    side: int
    products: int
    precision: torch.dtype
    device: str
    wide_vectors: bool
    bf16: bool
    compiled: bool

    @property
    def depthwise(self) -> bool:
        """Whether every channel has one filter of its own."""
        return self.layer == "depthwise"

    @property
    def rate(self) -> int:
        """The larger rate."""
        return max(self.taps.rate)

    @property
    def part(self) -> int:
        """Height or width of the maps that deinterlacing would give."""
        return -(-self.side // self.rate)

    @property
    def strided(self) -> bool:
        """Whether results are more than a pixel apart."""
        return self.taps.stride != (1, 1)

    @property
    def reaches_far(self) -> bool:
        """Whether it is too wide for the convolution library's fast path for depthwise layers."""
        return self.depthwise and self.rate > 4 and not self.wide_vectors

    @property
    def deep(self) -> bool:
        """Whether a full convolution has many channels and a small map."""
        return not self.depthwise and self.products >= 2**17 and self.side <= 48

    @property
    def half(self) -> bool:
        """Whether the map is in bf16."""
        return self.precision == torch.bfloat16

    @property
    def computes_in_its_precision(self) -> bool:
        """Whether the processor computes in the map's precision."""
        return self.bf16 or not self.half


class _Row(NamedTuple):
    way: Way
    when: Callable[[Case], bool]


_FORWARD = (
    # Without bf16 instructions the library computes in plain loops, 50 to 200 times slower; with them it is as fast.
    _Row(Way.COMPILED, lambda case: case.compiled and case.half),
    # Without AVX-512 the library leaves its fast path where a kernel reaches far: 9 to 30 times slower.
    _Row(Way.COMPILED, lambda case: case.compiled and case.reaches_far),
    # Deinterlacing stays on that path; it pays if the parts together are not much larger than the map.
    _Row(Way.DEINTERLACED, lambda case: case.reaches_far and 2 * case.part * case.rate <= 3 * case.side),
    _Row(Way.HOLES, lambda case: True),
)

_INPUT_GRADIENT = (
    # At rate 1, and in full convolutions, PyTorch's own is as fast as the forward pass.
    _Row(Way.TORCH, lambda case: case.computes_in_its_precision and (case.rate == 1 or not case.depthwise)),
    # Otherwise it is a forward pass with the flipped kernel, 3 to 10 times faster than PyTorch's.
    *_FORWARD,
)

_WEIGHT_GRADIENT = (
    # One pass over the maps instead of one for each tap, 2 to 30 times faster.
    _Row(Way.COMPILED, lambda case: case.compiled),
    # Of many channels on a small map, as a product of matrices for each tap: 1.2 to 1.8 times without AVX-512.
    _Row(Way.HOLES, lambda case: case.deep and not case.wide_vectors and not case.half),
    _Row(Way.TORCH, lambda case: case.computes_in_its_precision and case.rate == 1),
    # At other rates too, where taps outside the map cost nothing: 1.2 to 4 times.
    _Row(Way.TORCH, lambda case: not case.depthwise and case.wide_vectors and (case.half or case.rate <= 4)),
    _Row(Way.HOLES, lambda case: not case.depthwise),
    # Parts of one or two pixels are the bad case of deinterlacing, and so are large kernels in bf16.
    _Row(Way.HOLES, lambda case: case.part < 3 or case.strided or not case.wide_vectors),
    _Row(Way.HOLES, lambda case: case.half and (max(case.taps.kernel) > 3 or not case.bf16)),
    _Row(Way.DEINTERLACED, lambda case: True),
)

_AS_IT_COMES = Ways(Way.TORCH, Way.TORCH, Way.TORCH)
_ONLY_FORWARD = Ways(Way.HOLES, Way.TORCH, Way.TORCH)  # PyTorch's forward pass reads taps where they lie


def choose(case: Case, way: str = "auto") -> Ways:
    """The way of each pass.

    Args:
        case: The layer and where it is computed.
        way: One of ``WAYS``. A layer that cannot be computed by the one that is named has taps read where they lie.
    """
    if way == "auto":
        if case.device != "cpu" or case.precision not in (torch.float32, torch.bfloat16) or case.layer == "grouped":
            return _AS_IT_COMES  # right there, and nothing else was measured
        tables = (_FORWARD, _INPUT_GRADIENT, _WEIGHT_GRADIENT)
        ways = Ways(*(next(row.way for row in table if row.when(case)) for table in tables))
        return _AS_IT_COMES if case.computes_in_its_precision and ways == _ONLY_FORWARD else ways
    named = Way(way)
    if named == Way.COMPILED and not case.compiled:
        named = Way.HOLES
    return Ways(named, named, named)
