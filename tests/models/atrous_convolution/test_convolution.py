"""Every way of computing a convolution gives what float64 gives, forward and backward, in every setting."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atrous.models.atrous_convolution import Taps, atrous_convolution, compiled, compute_by, convolution

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}
WAYS = ("auto", "holes", "deinterlaced", "products", "compiled", "torch")
OURS = WAYS[:-1]
GRID = list(
    itertools.product(
        [(12, 12, 12), (37, 37, 37), (64, 64, 64), (4, 8, 4), (6, 5, 1), (8, 6, 2)],  # inputs, outputs, groups
        [(3, 3), (5, 5), (2, 4), (1, 3), (7, 3)],
        [(1, 1), (2, 2), (3, 1), (6, 6), (9, 14)],
        [(1, 1), (2, 2), (2, 1), (3, 3)],
        [(9, 13), (33, 28), (1, 17)],
        ["same", "none", "more than the kernel reaches"],
        [torch.channels_last, torch.contiguous_format],
    )
)


def error(result: Tensor, exact: Tensor) -> float:
    result, exact = result.detach(), exact.detach()
    return float((result.double() - exact).norm() / exact.norm().clamp(min=1e-12))


def gradients(
    convolve: Callable[..., Tensor], tensors: list[Tensor], slope: Tensor | None = None
) -> tuple[Tensor, list[Tensor], Tensor]:
    """The result, its gradients, and what it was multiplied by."""
    inputs = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    result = convolve(*inputs)
    if slope is None:
        slope = torch.randn(result.shape).to(result.dtype)
    return result, list(torch.autograd.grad(result, inputs, slope.to(result.dtype))), slope


@pytest.mark.parametrize(
    ("way", "precision"),  # PyTorch's own gradients in bf16 are wrong on some processors
    [(way, precision) for way in WAYS for precision in TOLERANCE if (way, precision) != ("torch", torch.bfloat16)],
)
def test_exact_over_a_grid(way: str, precision: torch.dtype) -> None:
    """A sample of all combinations, another one for each way."""
    torch.manual_seed(0)
    checked = 0
    for (inputs, outputs, groups), kernel, rate, stride, size, margin, layout in random.Random(way).sample(GRID, 500):
        reach = [(extent - 1) * apart for extent, apart in zip(kernel, rate, strict=True)]
        padding = {"same": (reach[0] // 2, reach[1] // 2), "none": (0, 0)}.get(margin, (reach[0] + 1, reach[1] // 3))
        taps = Taps(kernel, rate, stride, padding)
        if min(taps.size_of_result(size)) < 1:
            continue
        feature = torch.randn(2, inputs, *size).to(precision).contiguous(memory_format=layout)
        weight = torch.randn(outputs, inputs // groups, *kernel).to(precision)
        tensors = [feature, weight, torch.randn(outputs).to(precision)]
        result, mine, slope = gradients(
            lambda f, w, b, taps=taps, groups=groups: atrous_convolution(f, w, b, taps=taps, groups=groups, way=way),
            tensors,
        )
        wanted, exact, _ = gradients(
            lambda f, w, b, taps=taps, groups=groups: F.conv2d(f, w, b, taps.stride, taps.padding, taps.rate, groups),
            [tensor.double() for tensor in tensors],
            slope,
        )
        for one, other in zip([result, *mine], [wanted, *exact], strict=True):
            assert one.shape == other.shape
            assert one.dtype == precision
            assert error(one, other) < TOLERANCE[precision], (taps, inputs, outputs, groups, size, layout)
        if size[0] > 1 and min(result.shape[1:]) > 1:
            assert result.is_contiguous(memory_format=layout)
        checked += 1
    assert checked > 300


@pytest.mark.parametrize("way", [way for way in WAYS if way != "torch"])
@pytest.mark.parametrize(
    "shape", [(40, 64, 41, 3, 2, 1), (20, 20, 81, 5, 2, 1), (40, 40, 41, 3, 2, 5), (96, 64, 41, 3, 6, 2)]
)
def test_bf16_of_channels_that_fill_no_vectors(way: str, shape: tuple[int, int, int, int, int, int]) -> None:
    """Layers whose weight gradient PyTorch gets wrong on AVX-512 with channels last: relative error above 1."""
    inputs, outputs, side, kernel, rate, groups = shape
    torch.manual_seed(0)
    feature = torch.randn(2, inputs, side, side).bfloat16().contiguous(memory_format=torch.channels_last)
    weight = torch.randn(outputs, inputs // groups, kernel, kernel).bfloat16()
    weight = weight.contiguous(memory_format=torch.channels_last)
    padding = (kernel // 2 * rate,) * 2
    taps = Taps((kernel, kernel), (rate, rate), padding=padding)
    result, mine, slope = gradients(
        lambda f, w: atrous_convolution(f, w, taps=taps, groups=groups, way=way), [feature, weight]
    )
    wanted, exact, _ = gradients(
        lambda f, w: F.conv2d(f, w, None, 1, padding, rate, groups), [feature.double(), weight.double()], slope
    )
    for one, other in zip([result, *mine], [wanted, *exact], strict=True):
        assert error(one, other) < TOLERANCE[torch.bfloat16]


@pytest.mark.parametrize("way", OURS)
@pytest.mark.parametrize("shape", [(2, 32, 33, 3, 2), (2, 320, 33, 3, 12), (4, 152, 41, 5, 2)])
def test_bf16_where_pytorch_is_wrong(way: str, shape: tuple[int, int, int, int, int]) -> None:
    """Maps whose weight gradient PyTorch gets wrong on AVX-512 with channels last: relative error above 1."""
    batch, channels, side, kernel, rate = shape
    torch.manual_seed(0)
    feature = torch.randn(batch, channels, side, side).contiguous(memory_format=torch.channels_last)
    layer = nn.Conv2d(channels, channels, kernel, padding=kernel // 2 * rate, dilation=rate, groups=channels)
    exact, wanted, slope = gradients(lambda f, w: layer.double()._conv_forward(f, w, None), [feature, layer.weight])
    compute_by(layer.float(), way)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result, mine, _ = gradients(lambda f, w: layer._conv_forward(f, w, None), [feature, layer.weight], slope)
    assert result.dtype == torch.bfloat16
    for one, other in zip([result, *mine], [exact, *wanted], strict=True):
        assert error(one, other) < 1e-2


@pytest.mark.parametrize("way", ["holes", "deinterlaced"])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_derivatives_agree_with_finite_differences(way: str, groups: int) -> None:
    def convolve(feature: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        taps = Taps((3, 2), (2, 1), padding=(2, 1))
        return atrous_convolution(feature, weight, bias, taps=taps, groups=groups, way=way)

    torch.manual_seed(0)
    inputs = [
        torch.randn(size, dtype=torch.float64, requires_grad=True) for size in [(1, 4, 5, 6), (4, 4 // groups, 3, 2), 4]
    ]
    assert torch.autograd.gradcheck(convolve, inputs)
    assert torch.autograd.gradgradcheck(convolve, inputs)


@pytest.mark.parametrize("way", OURS)
def test_gradients_of_gradients(way: str) -> None:
    """A penalty on gradients has the gradients that it has with PyTorch's convolution in float64."""

    def of_penalty(how: str, precision: torch.dtype) -> tuple[Tensor, ...]:
        torch.manual_seed(0)
        feature = torch.randn(2, 16, 9, 11).to(precision).requires_grad_()
        weight = torch.randn(16, 1, 3, 3).to(precision).requires_grad_()
        result = atrous_convolution(feature, weight, taps=Taps((3, 3), (2, 2), padding=(2, 2)), groups=16, way=how)
        first = torch.autograd.grad(result.square().sum(), (feature, weight), create_graph=True)
        return torch.autograd.grad(first[0].square().sum() + first[1].cos().sum(), (feature, weight))

    for one, other in zip(of_penalty(way, torch.float32), of_penalty("torch", torch.float64), strict=True):
        assert error(one, other) < 1e-5


def test_only_what_learns_gets_gradients() -> None:
    feature, weight = torch.randn(1, 8, 9, 9), torch.randn(8, 1, 3, 3, requires_grad=True)
    result = atrous_convolution(feature, weight, taps=Taps((3, 3), (2, 2)), groups=8)
    result.sum().backward()
    assert feature.grad is None
    assert weight.grad is not None
    assert not atrous_convolution(feature, weight.detach(), taps=Taps((3, 3), (2, 2)), groups=8).requires_grad


def test_rounding_of_the_kernel() -> None:
    """Float32 to bf16: to the nearest, ties to even, infinities and not-a-number as they are."""
    if not compiled.is_available():
        pytest.skip("no compiler")
    values = torch.randn(40000) * torch.logspace(-40, 38, 40000)
    values[:8] = torch.tensor([0.0, -0.0, float("inf"), -float("inf"), float("nan"), 1.00390625, 1.01171875, 3.4e38])
    weight = torch.ones(8, 1, 1, 1)
    halves = torch.zeros(1, 8, 1, len(values) // 8, dtype=torch.bfloat16)
    # a bias is added in float32, and there is nothing else to add
    for each in values.view(-1, 8)[:200]:
        result = compiled.forward(halves[..., :1], weight, each, Taps((1, 1)), 8).flatten()
        number = ~each.isnan()
        assert torch.equal(result[number], each.to(torch.bfloat16)[number])
        assert torch.equal(result.isnan(), each.isnan())


def test_results_do_not_depend_on_threads() -> None:
    before = torch.get_num_threads()
    feature = torch.randn(3, 40, 19, 23).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(40, 1, 5, 5)
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(
                gradients(
                    lambda f, w: atrous_convolution(
                        f, w, taps=Taps((5, 5), (6, 6), padding=(12, 12)), groups=40, way="compiled"
                    ),
                    [feature, weight],
                    torch.ones(3, 40, 19, 23),
                )[1]
            )
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(one, two) for one, two in zip(results[0], other, strict=True))


@pytest.fixture
def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(16, 16, 3, groups=16, padding=6, dilation=6),
        nn.Conv2d(16, 16, 5, groups=16, padding=4, dilation=2, bias=False),
        nn.Conv2d(16, 8, 3, padding=2, dilation=2),
    )
    compute_by(layers)
    return layers


def test_an_exported_network_has_pytorch_operators_alone(network: nn.Sequential) -> None:
    image = torch.randn(1, 16, 21, 21)
    for mode in (network.eval(), network.train()):
        graph = torch.export.export(mode, (image,)).graph
        named = {str(node.target) for node in graph.nodes if node.op == "call_function"}
        assert named == {"aten.conv2d.default"}
    with torch.no_grad():
        traced = torch.jit.trace(network, image)
        assert "atrous::" not in str(traced.inlined_graph)
        assert torch.allclose(traced(image), network(image), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "precision"),
    [
        ("aot_eager", torch.bfloat16),
        *(pytest.param("inductor", each, marks=pytest.mark.long) for each in (torch.bfloat16, torch.float32)),
    ],
)
def test_compiled_without_a_break(network: nn.Sequential, backend: str, precision: torch.dtype) -> None:
    """Gradients too: the compiler has a graph of its own for them, and its code lays out maps as it likes."""
    image = torch.randn(2, 16, 33, 33)
    parameters = list(network.parameters())
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == torch.bfloat16):
        result = torch.compile(network, fullgraph=True, backend=backend)(image)
    mine = torch.autograd.grad(result.float().square().mean(), parameters)
    compute_by(network.double(), "torch")
    exact = torch.autograd.grad(network(image.double()).square().mean(), parameters)
    tolerance = 2e-2 if precision == torch.bfloat16 else 1e-5  # three layers round one after the other
    assert all(error(one, other) < tolerance for one, other in zip(mine, exact, strict=True))


def test_functional_gradients(network: nn.Sequential) -> None:
    weights = dict(network.named_parameters())

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        result: Tensor = torch.func.functional_call(network, parameters, torch.ones(1, 16, 9, 9))
        return result.square().sum()

    functional = torch.func.grad(loss)(weights)
    loss(weights).backward()
    assert all(torch.allclose(functional[name], weight.grad, rtol=1e-4) for name, weight in weights.items())


@pytest.mark.parametrize("way", ["holes", "deinterlaced", "compiled"])
def test_a_way_that_is_named_computes_all_passes(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if way == "compiled" and not compiled.is_available():
        pytest.skip("no compiler")
    module, called = getattr(convolution, way), []
    passes = {name: getattr(module, name) for name in ("forward", "input_gradient", "weight_gradient")}
    for name in passes:

        def note(*arguments: object, name: str = name) -> Tensor:
            called.append(name)
            result: Tensor = passes[name](*arguments)
            return result

        monkeypatch.setattr(module, name, note)
    taps = Taps((3, 3), (2, 2), padding=(2, 2))
    gradients(
        lambda f, w: atrous_convolution(f, w, taps=taps, groups=8, way=way),
        [torch.randn(1, 8, 9, 9), torch.randn(8, 1, 3, 3)],
    )
    assert passes.keys() <= set(called)
