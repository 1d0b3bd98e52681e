"""The tables choose what was measured to be the fastest."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from atrous.models.atrous_convolution import Taps
from atrous.models.atrous_convolution.rule import Case, Ways, choose

FLOAT, HALF = torch.float32, torch.bfloat16
WITH_AVX512 = {"wide_vectors": True, "bf16": True}
WITH_AVX2 = {"wide_vectors": False, "bf16": False}


def case(
    side: int,
    kernel: int,
    rate: int,
    precision: torch.dtype = FLOAT,
    *,
    wide_vectors: bool,
    bf16: bool,
    compiled: bool = False,
) -> Case:
    return Case(
        layer="depthwise",
        taps=Taps((kernel, kernel), (rate, rate), padding=(kernel // 2 * rate,) * 2),
        side=side,
        products=1,
        precision=precision,
        device="cpu",
        wide_vectors=wide_vectors,
        bf16=bf16,
        compiled=compiled,
    )


@pytest.mark.parametrize(
    ("side", "kernel", "rate", "precision", "fastest"),
    [
        # measured with AVX-512 and bf16 instructions, channels last: map, kernel, rate; where the fastest of the
        # ways without a compiler is clear
        (21, 5, 2, FLOAT, "deinterlaced"),
        (21, 5, 2, HALF, "holes"),
        (21, 3, 2, FLOAT, "deinterlaced"),
        (21, 3, 2, HALF, "deinterlaced"),
        (21, 3, 6, FLOAT, "deinterlaced"),
        (21, 3, 6, HALF, "deinterlaced"),
        (21, 3, 12, FLOAT, "holes"),
        (21, 3, 12, HALF, "holes"),
        (21, 3, 18, FLOAT, "holes"),
        (21, 3, 18, HALF, "holes"),
        (33, 3, 2, FLOAT, "deinterlaced"),
        (33, 3, 2, HALF, "deinterlaced"),
        (33, 3, 12, HALF, "deinterlaced"),
        (33, 3, 18, HALF, "holes"),
        (65, 3, 2, FLOAT, "deinterlaced"),
        (65, 3, 2, HALF, "deinterlaced"),
    ],
)
def test_weight_gradients_without_a_compiler(
    side: int, kernel: int, rate: int, precision: torch.dtype, fastest: str
) -> None:
    ways = choose(case(side, kernel, rate, precision, **WITH_AVX512))
    assert ways == Ways("holes", "holes", fastest)


@pytest.mark.parametrize(
    ("side", "rate", "forward"), [(21, 6, "d"), (21, 12, "d"), (21, 18, "h"), (33, 18, "d"), (33, 2, "h")]
)
def test_wide_reach_without_avx512(side: int, rate: int, forward: str) -> None:
    """Measured without a compiler, on AVX2: 8.1 against 1.2 ms, 6.9 and 1.7, 6.4 and 16, 419 and 159, 3.7 and 36."""
    ways = choose(case(side, 3, rate, **WITH_AVX2))
    assert ways == Ways(*[{"d": "deinterlaced", "h": "holes"}[forward]] * 2, "holes")


def test_what_the_kernel_computes() -> None:
    assert choose(case(21, 5, 2, HALF, **WITH_AVX512, compiled=True)) == Ways(*["compiled"] * 3)
    assert choose(case(21, 5, 2, **WITH_AVX512, compiled=True)) == Ways("holes", "holes", "compiled")
    assert choose(case(33, 3, 12, **WITH_AVX2, compiled=True)) == Ways(*["compiled"] * 3)
    assert choose(case(21, 5, 2, **WITH_AVX2, compiled=True)) == Ways("holes", "holes", "compiled")
    assert choose(case(21, 5, 1, **WITH_AVX2, compiled=True)) == Ways("holes", "torch", "compiled")


def test_no_bf16_weight_gradient_of_an_atrous_depthwise_layer_is_left_to_pytorch() -> None:
    for side in (1, 9, 21, 33, 65, 129):
        for kernel in (2, 3, 5, 7):
            for rate in (2, 3, 6, 12, 18, 36):
                for processor in (WITH_AVX512, WITH_AVX2, {"wide_vectors": True, "bf16": False}):
                    for compiled in (False, True):
                        ways = choose(case(side, kernel, rate, HALF, **processor, compiled=compiled))
                        assert ways.weight_gradient != "torch"


def test_plain_loops_are_never_chosen() -> None:
    """bf16 on a processor without it: 889 and 13,696 against 122 ms in float32, a layer of 512 channels."""
    for rate in (1, 2, 12):
        for compiled in (False, True):
            known = case(33, 3, rate, HALF, **WITH_AVX2, compiled=compiled)
            assert "torch" not in choose(known)
            assert "torch" not in choose(replace(known, layer="full", compiled=False))


def test_full_layers() -> None:
    full = replace(case(33, 3, 12, **WITH_AVX2), layer="full")
    assert choose(full) == Ways("holes", "torch", "holes")
    at_rate_1 = replace(full, taps=Taps((3, 3)), products=512 * 512, side=21)
    assert choose(at_rate_1) == Ways("holes", "torch", "holes")  # measured on AVX2: 80 against 45 ms at 512 channels
    assert choose(replace(at_rate_1, side=81)) == Ways("torch", "torch", "torch")
    assert choose(replace(at_rate_1, products=256 * 256)) == Ways("torch", "torch", "torch")
    assert choose(replace(at_rate_1, wide_vectors=True)) == Ways("torch", "torch", "torch")
    assert choose(replace(at_rate_1, precision=HALF, **WITH_AVX512)) == Ways("torch", "torch", "torch")
    assert choose(replace(full, taps=Taps((3, 3)))) == Ways("torch", "torch", "torch")
    assert choose(replace(full, precision=HALF)) == Ways("holes", "holes", "holes")
    assert choose(replace(full, precision=HALF, **WITH_AVX512)).weight_gradient == "torch"


@pytest.mark.parametrize(
    "change", [{"device": "cuda"}, {"device": "mps"}, {"precision": torch.float16}, {"precision": torch.float64}]
)
def test_elsewhere_pytorch_is_left_alone(change: dict[str, object]) -> None:
    known = case(33, 3, 2, **WITH_AVX2)
    assert choose(known) != Ways("torch", "torch", "torch")
    assert choose(replace(known, **change)) == Ways("torch", "torch", "torch")
    assert choose(replace(known, layer="grouped")) == Ways("torch", "torch", "torch")


def test_ways_by_name() -> None:
    known = case(33, 3, 2, **WITH_AVX2, compiled=True)
    for way in ("holes", "deinterlaced", "compiled", "torch"):
        assert choose(known, way) == Ways(way, way, way)
    assert choose(replace(known, compiled=False), "compiled") == Ways("holes", "holes", "holes")
