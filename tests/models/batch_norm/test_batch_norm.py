"""Batch norm with the clamp after it: what PyTorch computes in float64, and only where nothing looks between."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
import torch.nn.functional as F
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

import atrous
from atrous.models.batch_norm import Bounds, clamped_batch_norm, fuse_batch_norms, kernel
from atrous.models.batch_norm.layer import FusedBatchNorm2d, ReLU6AfterNorm, ReLUAfterNorm

needs_compiler = pytest.mark.skipif(kernel.library() is None, reason="no compiler")
CLAMPS = {"none": Bounds(), "relu": Bounds(0), "relu6": Bounds(0, 6)}
SIZES = [(2, 5, 7, 9), (3, 16, 1, 1), (1, 40, 33, 20), (2, 67, 13, 1), (4, 3, 40, 41), (2, 600, 9, 9)]


def a_map(size: tuple[int, ...], precision: torch.dtype = torch.float32) -> Tensor:
    """Values far from zero, so that a variance taken as the difference of two large numbers would be wrong."""
    torch.manual_seed(0)
    channels = torch.linspace(-30, 30, size[1])[:, None, None]
    return (torch.randn(size) + channels).to(precision).contiguous(memory_format=torch.channels_last)


def parameters(channels: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """γ, β, running mean and variance; values reach both ends of a ReLU6."""
    torch.manual_seed(1)
    return (
        torch.empty(channels).uniform_(-4, 4),
        torch.empty(channels).uniform_(-1, 6),
        torch.randn(channels),
        torch.empty(channels).uniform_(0.5, 2),
    )


def clamped(values: Tensor, bounds: Bounds) -> Tensor:
    return values.clamp(*bounds)


def errors(found: list[Tensor], wanted: list[Tensor]) -> list[float]:
    pairs = zip(found, wanted, strict=True)
    return [float((each.double() - right).abs().mean() / (right.abs().mean() + 1e-9)) for each, right in pairs]


@needs_compiler
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("clamp", CLAMPS)
@pytest.mark.parametrize("size", SIZES)
def test_learning_is_that_of_float64(size: tuple[int, ...], clamp: str, precision: torch.dtype) -> None:
    feature, bounds = a_map(size, precision).requires_grad_(), CLAMPS[clamp]
    weight, bias, mean, variance = parameters(size[1])
    slope = torch.randn(size).to(precision)
    exact = [each.detach().double().requires_grad_() for each in (feature, weight, bias)]
    exact_running = [mean.double(), variance.double()]
    right = clamped(F.batch_norm(exact[0], *exact_running, *exact[1:], True, 0.3, 1e-3), bounds)
    right.backward(slope.double())
    weight.requires_grad_()
    bias.requires_grad_()
    result = clamped_batch_norm(
        feature, weight, bias, (mean, variance), learns=True, momentum=0.3, eps=1e-3, bounds=bounds
    )
    assert "_BatchNorm" in type(result.grad_fn).__name__  # by the kernel
    assert result.dtype == precision
    result.backward(slope)
    gradients = [each.grad for each in (feature, weight, bias)]
    tolerance = 1e-5 if precision == torch.float32 else 1e-2
    wanted = [right, *(each.grad for each in exact), *exact_running]
    assert max(errors([result, *gradients, mean, variance], wanted)) < tolerance


@needs_compiler
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("clamp", CLAMPS)
def test_frozen_statistics_are_those_of_float64(clamp: str, precision: torch.dtype) -> None:
    size, bounds = (2, 67, 13, 11), CLAMPS[clamp]
    weight, bias, mean, variance = parameters(67)
    feature = torch.randn(size).to(precision).contiguous(memory_format=torch.channels_last).requires_grad_()
    exact = feature.detach().double().requires_grad_()
    vectors = [each.double() for each in (mean, variance, weight, bias)]
    right = clamped(F.batch_norm(exact, *vectors, False, 0.1, 1e-3), bounds)
    right.backward(torch.ones_like(right))
    kept = mean.clone()
    result = clamped_batch_norm(
        feature, weight, bias, (mean, variance), learns=False, momentum=0.1, eps=1e-3, bounds=bounds
    )
    assert "_Frozen" in type(result.grad_fn).__name__
    result.backward(torch.ones_like(result))
    tolerance = 1e-5 if precision == torch.float32 else 1e-2
    assert max(errors([result, feature.grad], [right, exact.grad])) < tolerance
    assert mean.equal(kept)


@needs_compiler
@pytest.mark.parametrize("learns", [True, False])
def test_a_shortcut_may_be_added_in_place(learns: bool) -> None:
    """As residual units do."""
    feature = a_map((2, 16, 5, 5)).requires_grad_()
    weight, bias, *running = parameters(16)
    results = []
    for compute in ("ours", "theirs"):
        if compute == "ours":
            result = clamped_batch_norm(
                feature, weight, bias, (running[0], running[1]), learns=learns, momentum=0.0, eps=1e-3, bounds=Bounds()
            )
        else:
            result = F.batch_norm(feature, *running, weight, bias, learns, 0.0, 1e-3)
        result += feature
        result.relu_()
        results.append(torch.autograd.grad(result.square().sum(), feature)[0])
    torch.testing.assert_close(*results, rtol=1e-3, atol=1e-3)


@needs_compiler
def test_no_number_depends_on_the_number_of_threads() -> None:
    before, found = torch.get_num_threads(), []
    weight, bias, *running = parameters(40)
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            feature = a_map((3, 40, 33, 20)).requires_grad_()
            result = clamped_batch_norm(
                feature, weight, bias, (running[0].clone(), running[1].clone()), learns=True, momentum=0.1, eps=1e-5,
                bounds=Bounds(0),
            )  # fmt: skip
            result.square().sum().backward()
            found.append((result, feature.grad))
    finally:
        torch.set_num_threads(before)
    assert all(first[0].equal(second[0]) and first[1].equal(second[1]) for first, second in itertools.pairwise(found))


@needs_compiler
def test_what_is_no_number_stays_so() -> None:
    feature = torch.randn(2, 20, 4, 4).contiguous(memory_format=torch.channels_last)
    feature[0, 3, 1, 1] = float("nan")
    result = clamped_batch_norm(
        feature, None, None, (torch.zeros(20), torch.ones(20)), learns=False, momentum=0.1, eps=0, bounds=Bounds(0, 6)
    )
    assert result.isnan().sum() == 1
    result = clamped_batch_norm(feature, None, None, None, learns=True, momentum=0.1, eps=0, bounds=Bounds(0, 6))
    assert result[:, 3].isnan().all()


@needs_compiler
@pytest.mark.parametrize("learns", [True, False])
def test_second_derivatives(learns: bool) -> None:
    feature = torch.randn(2, 3, 4, 3).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight, bias = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.1, 0.2, -0.3])
    running = (torch.zeros(3), torch.ones(3))

    def second(compute: str) -> Tensor:
        if compute == "ours":
            result = clamped_batch_norm(
                feature, weight, bias, running, learns=learns, momentum=0.1, eps=1e-5, bounds=Bounds(0)
            )
            assert type(result.grad_fn).__name__ in ("_BatchNormBackward", "_FrozenBackward")
        else:
            result = F.batch_norm(feature, running[0], running[1], weight, bias, learns, 0.1, 1e-5).relu()
        (first,) = torch.autograd.grad(result.pow(3).sum(), feature, create_graph=True)
        (found,) = torch.autograd.grad(first.square().sum(), feature)
        return found

    torch.testing.assert_close(second("ours"), second("theirs"), rtol=1e-4, atol=1e-4)


@needs_compiler
def test_a_map_without_gradient_teaches_scale_and_shift() -> None:
    weight, bias, *_ = parameters(16)
    gradients = []
    for feature in (a_map((2, 16, 5, 5)), a_map((2, 16, 5, 5)).requires_grad_()):
        own = [each.clone().requires_grad_() for each in (weight, bias)]
        result = clamped_batch_norm(feature, *own, None, learns=True, momentum=0.1, eps=1e-3, bounds=Bounds(0))
        gradients.append(torch.autograd.grad(result.square().sum(), own))
    assert all(first.equal(second) for first, second in zip(*gradients, strict=True))


def test_functional_gradients_and_half_networks_are_pytorchs() -> None:
    network = Pair("seen by nothing else").eval()
    fuse_batch_norms(network, lambda: network(torch.randn(2, 3, 4, 4)))
    feature = torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    wanted = torch.autograd.functional.jacobian(lambda each: network(each).sum(), feature)
    torch.testing.assert_close(torch.func.grad(lambda each: network(each).sum())(feature), wanted)
    half = copy.deepcopy(network).bfloat16()
    assert half.norm.weight.dtype == torch.bfloat16
    torch.testing.assert_close(half(feature.bfloat16()).float(), network(feature), rtol=0, atol=0.05)


def test_the_mean_over_all_batches_can_be_tracked() -> None:
    plain = nn.BatchNorm2d(3, momentum=None)
    network = nn.Sequential(copy.deepcopy(plain)).eval()
    fuse_batch_norms(network, lambda: network(torch.randn(2, 3, 4, 4)))
    plain.train()
    network.train()
    for _ in range(3):
        feature = torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(network(feature), plain(feature))
    ours = network[0]
    assert isinstance(ours, FusedBatchNorm2d)
    torch.testing.assert_close(ours.running_var, plain.running_var)
    assert ours.num_batches_tracked == 3


def test_a_segmentor_is_built_in_training() -> None:
    network = atrous.create("deeplabv3plus", "resnet18", num_classes=4)
    assert all(module.training for module in network.modules())


def test_one_value_has_no_variance() -> None:
    one = torch.ones(1, 3, 1, 1)
    with pytest.raises(ValueError, match="more than 1 value"):
        clamped_batch_norm(one, None, None, None, learns=True, momentum=0.1, eps=1e-5, bounds=Bounds())


@pytest.mark.parametrize(
    ("backbone", "joined"),
    [("resnet18", 9 + 14), ("xception41", 26 + 14), ("mobilenetv2_050", 14), ("tf_deeplab_mobilenetv2_050", 14)],
)
def test_a_network_learns_as_pytorchs_layers_do(backbone: str, joined: int) -> None:
    """Same losses, gradients and statistics as with every layer of its own class."""
    torch.manual_seed(0)
    network = atrous.create("deeplabv3plus", backbone, num_classes=4, overrides=["model.head.dropout=0"])
    plain = copy.deepcopy(network)
    for layer in plain.modules():
        if isinstance(layer, FusedBatchNorm2d):
            layer.__class__ = nn.BatchNorm2d
        elif isinstance(layer, ReLUAfterNorm):
            layer.__class__ = nn.ReLU
        elif isinstance(layer, ReLU6AfterNorm):
            layer.__class__ = nn.ReLU6
        elif type(layer).__name__ == "FusedBatchNormAct2d":
            layer.__class__ = type(layer).__mro__[1]
    assert sum(isinstance(layer, ReLUAfterNorm | ReLU6AfterNorm) for layer in network.modules()) == joined
    assert list(network.state_dict()) == list(plain.state_dict())
    for each in (network, plain):
        each.double().train().to(memory_format=torch.channels_last)
    for each in (network, plain):  # the wiring, where rounding hides nothing
        each.zero_grad()
    image = torch.randint(0, 256, (2, 3, 65, 65), dtype=torch.uint8)
    results = [each(image) for each in (network, plain)]
    torch.testing.assert_close(results[0], results[1])
    for result in results:
        result.square().mean().backward()
    for (name, ours), theirs in zip(network.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, msg=lambda text, name=name: f"{name}: {text}")
    for (name, ours), theirs in zip(network.named_buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, msg=lambda text, name=name: f"{name}: {text}")


class Silent(nn.Module):
    """Does nothing in evaluation, like stochastic depth."""

    def forward(self, feature: Tensor) -> Tensor:
        return feature * 0.5 if self.training else feature


class Pair(nn.Module):
    """A norm and an activation, and whatever else looks at the norm."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.norm, self.act, self.kind = nn.BatchNorm2d(3), nn.ReLU(), kind
        self.between, self.silent = nn.Dropout(0.5), Silent()

    def forward(self, feature: Tensor) -> Tensor:
        norm = self.norm(feature)
        if self.kind == "seen by nothing else":
            assert norm.shape[1] == 3  # no use of its values
            return self.act(norm)
        if self.kind == "added later":
            return self.act(norm) + norm
        if self.kind == "used before":
            return norm.mean() + self.act(norm)
        if self.kind == "dropped between":
            return self.act(self.between(norm))
        if self.kind == "scaled between in training":
            return self.act(self.silent(norm))
        if self.kind == "activation called twice":
            return self.act(norm) + self.act(feature)
        return norm


@pytest.mark.parametrize(
    "kind",
    [
        "seen by nothing else",
        "added later",
        "used before",
        "dropped between",
        "scaled between in training",
        "activation called twice",
        "alone",
    ],
)
def test_only_an_activation_that_is_alone_is_joined(kind: str) -> None:
    network = Pair(kind).eval()
    fuse_batch_norms(network, lambda: network(torch.randn(2, 3, 4, 4)))
    assert isinstance(network.act, ReLUAfterNorm) == (kind == "seen by nothing else")


def test_a_result_that_somebody_takes_is_left_alone() -> None:
    network = Pair("seen by nothing else").eval()
    network.norm.register_forward_hook(lambda module, inputs, output: None)
    fuse_batch_norms(network, lambda: network(torch.randn(2, 3, 4, 4)))
    assert type(network.act) is nn.ReLU


def test_an_activation_inside_a_norm_is_called_if_somebody_takes_its_result() -> None:
    network, seen = nn.Sequential(BatchNormAct2d(3)).eval(), []
    fuse_batch_norms(network, lambda: network(torch.randn(2, 3, 4, 4)))
    network[0].act.register_forward_hook(lambda module, inputs, output: seen.append(output))
    assert network(torch.randn(2, 3, 4, 4)).equal(seen[0])


def test_the_activation_acts_after_another_module() -> None:
    network = Pair("seen by nothing else").eval()
    fuse_batch_norms(network, lambda: network(torch.randn(2, 3, 4, 4)))
    feature = torch.randn(2, 3, 4, 4)
    assert network(feature).min() == 0
    network.norm = nn.Identity()
    assert network(feature).equal(feature.relu())


def test_copies_have_norms_of_their_own() -> None:
    network = Pair("seen by nothing else").eval()
    fuse_batch_norms(network, lambda: network(torch.randn(2, 3, 4, 4)))
    copied = copy.deepcopy(network)
    assert isinstance(copied.act, ReLUAfterNorm)
    assert copied.act.norm[0] is copied.norm


def test_compiled_and_exported_networks_have_pytorchs_operators() -> None:
    network = Pair("seen by nothing else").eval()
    fuse_batch_norms(network, lambda: network(torch.randn(2, 3, 4, 4)))
    feature = torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    graph = torch.export.export(network, (feature,)).graph
    names = {str(node.target) for node in graph.nodes if node.op == "call_function"}
    assert names <= {"aten.batch_norm.default", "aten.relu_.default", "aten.relu.default", "aten.sym_size.int"}
    assert any("relu" in name for name in names)
    traced = torch.jit.trace(network, feature)
    torch.testing.assert_close(traced(feature), network(feature))
