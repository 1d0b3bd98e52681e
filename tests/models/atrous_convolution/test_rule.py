"""The tables choose what was measured to be the fastest."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from atrous.models.atrous_convolution import Taps
from atrous.models.atrous_convolution.processor import computed_in
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
        size=(side, side),
        inputs=1,
        outputs=512,
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
        (21, 5, 2, HALF, "products"),
        (21, 3, 2, FLOAT, "deinterlaced"),
        (21, 3, 2, HALF, "deinterlaced"),
        (21, 3, 6, FLOAT, "deinterlaced"),
        (21, 3, 6, HALF, "deinterlaced"),
        (21, 3, 12, FLOAT, "products"),
        (21, 3, 12, HALF, "products"),
        (21, 3, 18, FLOAT, "products"),
        (21, 3, 18, HALF, "products"),
        (33, 3, 2, FLOAT, "deinterlaced"),
        (33, 3, 2, HALF, "deinterlaced"),
        (33, 3, 12, HALF, "deinterlaced"),
        (33, 3, 18, HALF, "products"),
        (65, 3, 2, FLOAT, "deinterlaced"),
        (65, 3, 2, HALF, "deinterlaced"),
    ],
)
def test_weight_gradients_without_a_compiler(
    side: int, kernel: int, rate: int, precision: torch.dtype, fastest: str
) -> None:
    assert choose(case(side, kernel, rate, precision, **WITH_AVX512)).weight_gradient == fastest


@pytest.mark.parametrize(
    ("side", "rate", "forward"), [(21, 6, "d"), (21, 12, "d"), (21, 18, "h"), (33, 18, "d"), (33, 2, "h")]
)
def test_wide_reach_without_avx512(side: int, rate: int, forward: str) -> None:
    """Measured without a compiler, on AVX2: 8.1 against 1.2 ms, 6.9 and 1.7, 6.4 and 16, 419 and 159, 3.7 and 36."""
    ways = choose(case(side, 3, rate, **WITH_AVX2))
    assert ways == Ways(*[{"d": "deinterlaced", "h": "holes"}[forward]] * 2, "products")


@pytest.mark.parametrize("precision", [FLOAT, HALF])
@pytest.mark.parametrize(
    ("side", "kernel", "rate", "forward"),
    [
        *[(21, 3, 6, "h"), (21, 3, 8, "d"), (21, 3, 18, "h"), (33, 3, 18, "d"), (65, 3, 6, "h"), (65, 3, 18, "d")],
        *[(21, 5, 2, "h"), (21, 5, 4, "d")],
    ],
)
def test_wide_reach_with_avx512(side: int, kernel: int, rate: int, forward: str, precision: torch.dtype) -> None:
    """Milliseconds of holes, deinterlaced and compiled in float32: 0.3, -, 0.4; 2.5, 1.6, 0.4; 1.6, 2.9, 0.3.

    At 65×65 and rate 18: 119, 7 and 1.3. The library's fast path ends where the padding exceeds 6 pixels.
    """
    known = case(side, kernel, rate, precision, **WITH_AVX512)
    assert choose(known)[:2] == ({"d": "deinterlaced", "h": "holes"}[forward],) * 2
    far = kernel // 2 * rate > 6
    assert choose(replace(known, compiled=True))[:2] == ("compiled" if far else "holes",) * 2


def test_what_the_kernel_computes() -> None:
    assert choose(case(21, 5, 2, HALF, **WITH_AVX512, compiled=True)) == Ways("holes", "holes", "compiled")
    assert choose(case(21, 5, 2, HALF, **WITH_AVX2, compiled=True)) == Ways(*["compiled"] * 3)
    assert choose(case(21, 5, 2, **WITH_AVX512, compiled=True)) == Ways("holes", "holes", "compiled")
    assert choose(case(33, 3, 12, **WITH_AVX2, compiled=True)) == Ways(*["compiled"] * 3)
    assert choose(case(21, 5, 2, **WITH_AVX2, compiled=True)) == Ways("holes", "holes", "compiled")
    assert choose(case(21, 5, 1, **WITH_AVX2, compiled=True)) == Ways("holes", "torch", "compiled")


def test_depthwise_layers_at_rate_1_with_avx512() -> None:
    """Input gradients of 256 channels, 129×129: 47 against 1.7 ms; strided, 96 channels, 161×161: 8.7 against 12.7.

    Weight gradients in bf16, 81×81: 1.7 (3×3) and 24 (5×5) against 2.8 and 2.1 ms.
    """
    for compiled in (True, False):
        known = case(129, 3, 1, **WITH_AVX512, compiled=compiled)
        strided = Taps((3, 3), (1, 1), (2, 2), (1, 1))
        assert choose(known).input_gradient == "holes"
        assert choose(replace(known, precision=HALF)) == Ways("holes", "holes", "torch")
        assert choose(replace(known, taps=strided)).input_gradient == "torch"
        assert choose(replace(known, taps=strided, precision=HALF)).input_gradient == "holes"
    large = case(81, 5, 1, HALF, **WITH_AVX512, compiled=True)
    assert choose(large) == Ways("holes", "holes", "compiled")


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
    assert choose(full) == Ways("holes", "torch", "products")
    at_rate_1 = replace(full, taps=Taps((3, 3), padding=(1, 1)), inputs=512, size=(21, 21))
    assert choose(at_rate_1) == Ways("holes", "torch", "products")  # measured on AVX2: 80 against 45 ms
    assert choose(replace(at_rate_1, size=(81, 81))) == Ways("torch", "torch", "torch")
    assert choose(replace(at_rate_1, inputs=128)) == Ways("torch", "torch", "torch")
    assert choose(replace(at_rate_1, wide_vectors=True)) == Ways("torch", "torch", "torch")
    assert choose(replace(at_rate_1, precision=HALF, **WITH_AVX512)) == Ways("torch", "torch", "torch")
    assert choose(replace(full, taps=Taps((3, 3)))) == Ways("torch", "torch", "torch")
    assert choose(replace(full, precision=HALF)) == Ways("holes", "holes", "products")


@pytest.mark.parametrize(
    ("inputs", "side", "rate", "precision", "forward", "weight_gradient"),
    # to 256 channels, milliseconds of PyTorch and of products
    [
        (256, 33, 4, HALF, "holes", "torch"),  # 2.2 and 6.3; 4.2 and 7.8
        (512, 21, 12, HALF, "holes", "products"),  # 1.9 and 2.8; 9.1 and 3.4
        (1024, 33, 6, HALF, "holes", "torch"),  # 10.7 and 12.4; 19 and 19
        (2048, 21, 6, HALF, "products", "products"),  # 52 and 9; 45 and 17
        (2048, 21, 18, HALF, "products", "products"),  # 62 and 7; 62 and 8
        (2048, 33, 12, HALF, "products", "products"),  # 114 and 20; 109 and 33
        (2048, 33, 1, HALF, "torch", "torch"),  # 17 and 27; 76 and 48
        (256, 33, 6, FLOAT, "holes", "torch"),  # 11 and 16; 14 and 17
        (2048, 21, 6, FLOAT, "holes", "products"),  # 39 and -; 60 and 43
        (2048, 21, 18, FLOAT, "holes", "products"),  # 14 and -; 96 and 14
    ],
)
def test_full_layers_with_avx512(
    inputs: int, side: int, rate: int, precision: torch.dtype, forward: str, weight_gradient: str
) -> None:
    full = replace(case(side, 3, rate, precision, **WITH_AVX512), layer="full", inputs=inputs, outputs=256)
    ways = choose(full)
    if ways.weight_gradient == "torch" and forward == "holes":
        forward = ways.forward  # PyTorch's own forward pass has either name
        assert forward in ("holes", "torch")
    assert ways == Ways(forward, "torch", weight_gradient)


@pytest.mark.parametrize("layer", ["full", "depthwise", "grouped"])
@pytest.mark.parametrize(
    ("taps", "size"),
    [
        (Taps((1, 3), (6, 6), (2, 2)), (9, 13)),  # a stride and a rate
        (Taps((1, 2), (1, 5), (2, 1), (0, 2)), (33, 28)),
        (Taps((2, 4), (6, 1), padding=(3, 1)), (1, 17)),  # the map lies between two taps
        (Taps((3, 3), (2, 2), padding=(5, 5)), (21, 21)),  # more padding than the kernel reaches
    ],
)
def test_pytorch_never_computes_in_bf16_where_it_looks_outside_the_map(
    layer: str, taps: Taps, size: tuple[int, int]
) -> None:
    """With AMX instructions results are wrong and the heap is damaged (torch 2.14)."""
    known = replace(case(1, 3, 1, HALF, **WITH_AVX512), layer=layer, taps=taps, size=size)
    assert "torch" not in choose(known)
    assert computed_in(torch.zeros(1, 4, *size, dtype=HALF), taps) == FLOAT
    if layer == "grouped":
        assert choose(replace(known, precision=FLOAT)) == Ways("torch", "torch", "torch")


@pytest.mark.parametrize(("kernel", "rate", "side"), [(1, 1, 5), (3, 1, 1), (3, 2, 33), (3, 24, 21), (4, 4, 21)])
def test_usual_layers_are_usual(kernel: int, rate: int, side: int) -> None:
    taps = Taps((kernel, kernel), (rate, rate), padding=((kernel - 1) * rate // 2,) * 2)
    assert taps.is_usual_for((side, side))


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
