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

from atrous.geometry import Size
from atrous.models.atrous_convolution.taps import Taps

WAYS = ("auto", "holes", "deinterlaced", "products", "compiled", "torch")


class Way(StrEnum):
    """A way of computing a convolution, forward and backward."""

    HOLES = "holes"
    DEINTERLACED = "deinterlaced"
    PRODUCTS = "products"
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
        size: Height and width of the map.
        inputs: Channels of the map that a filter looks at.
        outputs: Channels of the result.
        precision: Precision of the map.
        device: Type of the device.
        wide_vectors: Whether the processor has AVX-512.
        bf16: Whether it computes in bf16.
        compiled: Whether the kernel of ``depthwise.cpp`` is at hand and is for this layer (one filter a channel).
    """

    layer: Literal["depthwise", "full", "grouped"]
    taps: Taps
    size: Size
    inputs: int
    outputs: int
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
    def side(self) -> int:
        """Height or width of the map, whichever is less."""
        return min(self.size)

    @property
    def part(self) -> int:
        """Height or width of the maps that deinterlacing would give."""
        return -(-self.side // self.rate)

    @property
    def products(self) -> int:
        """Channels of the map times those of the result."""
        return self.inputs * self.outputs

    @property
    def strided(self) -> bool:
        """Whether results are more than a pixel apart."""
        return self.taps.stride != (1, 1)

    @property
    def small(self) -> bool:
        """Whether the kernel has at most 3×3 taps."""
        return max(self.taps.kernel) <= 3

    @property
    def reaches_far(self) -> bool:
        """Whether it is padded by more than the convolution library's fast path for depthwise layers takes."""
        widest = max(max(pad, reach - pad) for pad, reach in zip(self.taps.padding, self.taps.reach, strict=True))
        return self.depthwise and widest > (6 if self.wide_vectors else 4)

    @property
    def deep(self) -> bool:
        """Whether a full convolution has many channels and a small map."""
        return not self.depthwise and self.products >= 2**17 and self.side <= 48

    @property
    def moderate(self) -> bool:
        """Whether a full convolution has not too many channels, and most taps inside the map."""
        return not self.depthwise and self.part >= 3 and self.products < (2**19 if self.half else 2**18)

    @property
    def half(self) -> bool:
        """Whether the map is in bf16."""
        return self.precision == torch.bfloat16

    @property
    def has_right_weight_gradient(self) -> bool:
        """Whether the convolution library gets the weight gradient of a full or grouped convolution right.

        In bf16, with a rate and with channels last, it is wrong unless channels fill vectors of 16, or one of all.
        """
        few = self.layer == "full" and self.inputs <= 16
        return not self.half or self.rate == 1 or few or self.inputs % 16 == 0

    @property
    def computes_in_its_precision(self) -> bool:
        """Whether PyTorch computes in the map's precision, and does it right."""
        return not self.half or (self.bf16 and self.taps.is_usual_for(self.size))


class _Row(NamedTuple):
    way: Way
    when: Callable[[Case], bool]


def _is_torch_right(case: Case) -> bool:
    """Whether PyTorch's weight gradient has the map's precision and is right."""
    return case.computes_in_its_precision and case.has_right_weight_gradient


_FORWARD = (
    # Without bf16 instructions the library computes in plain loops, 50 to 200 times slower.
    _Row(Way.COMPILED, lambda case: case.compiled and case.half and not case.bf16),
    # Where a kernel reaches far the library leaves its fast path for depthwise layers: 4 to 90 times slower.
    _Row(Way.COMPILED, lambda case: case.compiled and case.reaches_far),
    # Deinterlacing stays on that path; it pays if the parts together are not much larger than the map.
    _Row(Way.DEINTERLACED, lambda case: case.reaches_far and 2 * case.part * case.rate <= 3 * case.side),
    # With bf16 instructions the library has no fast path for so many channels and a rate: 4 to 9 times slower.
    _Row(Way.PRODUCTS, lambda case: case.half and case.bf16 and case.rate > 1 and case.inputs >= 2048),
    _Row(Way.HOLES, lambda case: True),
)

_INPUT_GRADIENT = (
    # In full convolutions PyTorch's own is as fast as the forward pass.
    _Row(Way.TORCH, lambda case: case.computes_in_its_precision and not case.depthwise),
    # At rate 1 too, except with AVX-512: there a forward pass with the flipped kernel is 2 to 25 times faster, but
    # where it is strided and in float32.
    _Row(Way.TORCH, lambda case: case.rate == 1 and not case.wide_vectors and case.computes_in_its_precision),
    _Row(Way.TORCH, lambda case: case.rate == 1 and case.strided and not case.half),
    # So it is at other rates, 3 to 100 times faster than PyTorch's own.
    *_FORWARD,
)

_WEIGHT_GRADIENT = (
    # For small kernels in bf16 PyTorch's own is faster, and it is right at rate 1.
    _Row(Way.TORCH, lambda case: case.depthwise and case.half and case.bf16 and case.rate == 1 and case.small),
    # One pass over the maps instead of one for each tap, 2 to 40 times faster.
    _Row(Way.COMPILED, lambda case: case.compiled),
    # Of many channels on a small map: 1.2 to 1.8 times without AVX-512.
    _Row(Way.PRODUCTS, lambda case: case.deep and not case.wide_vectors and not case.half),
    _Row(Way.TORCH, lambda case: case.computes_in_its_precision and case.rate == 1),
    # At other rates, where taps outside the map cost nothing: 1.2 to 8 times. With AVX-512 PyTorch's own is faster
    # unless there are very many channels, or few taps inside the map.
    _Row(Way.TORCH, lambda case: _is_torch_right(case) and case.wide_vectors and case.moderate),
    _Row(Way.PRODUCTS, lambda case: not case.depthwise),
    # Parts of one or two pixels are the bad case of deinterlacing, and so are large kernels in bf16.
    _Row(Way.PRODUCTS, lambda case: case.part < 3 or case.strided or not case.wide_vectors),
    _Row(Way.PRODUCTS, lambda case: case.half and not (case.small and case.bf16)),
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
        if case.device != "cpu" or case.precision not in (torch.float32, torch.bfloat16):
            return _AS_IT_COMES  # right there, and nothing else was measured
        if case.layer == "grouped" and _is_torch_right(case):
            return _AS_IT_COMES
        tables = (_FORWARD, _INPUT_GRADIENT, _WEIGHT_GRADIENT)
        ways = Ways(*(next(row.way for row in table if row.when(case)) for table in tables))
        return _AS_IT_COMES if case.computes_in_its_precision and ways == _ONLY_FORWARD else ways
    named = Way(way)
    if named == Way.COMPILED and not case.compiled:
        named = Way.HOLES
    return Ways(named, named, named)
