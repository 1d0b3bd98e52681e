"""The network that holds all others."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atrous.errors import AtrousError
from atrous.models import Segmentor
from atrous.models.activation_checkpointing import recompute_in_backward
from atrous.models.nas import AutoDeepLab, Genotype, Operation, SearchHead, Supernet
from atrous.models.nas.mixed_cell import _shuffled
from atrous.models.nas.mixture import Mixture
from atrous.models.nas.plain_norm import PlainNorm

Move = Callable[[Supernet, AutoDeepLab], None]
STEM = (4, 6, 8)


def supernet_of(genotype: Genotype, **options: object) -> Supernet:
    torch.manual_seed(0)
    layers, blocks = len(genotype.strides), len(genotype.blocks)
    return Supernet(layers=layers, blocks=blocks, width=2, stem=STEM, **{"sampling": "gumbel", **options})


def randomize(network: nn.Module) -> None:
    """Statistics that are not those of a fresh network."""
    for name, tensor in network.named_buffers():
        if name.endswith("running_mean"):
            tensor.normal_()
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 2)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("which", ["paper", "varied"])
@pytest.mark.parametrize("size", [(65, 97), (70, 90)])
def test_held_to_a_genotype_it_is_the_found_network(
    which: str, training: bool, size: tuple[int, int], move: Move, request: pytest.FixtureRequest
) -> None:
    genotype = request.getfixturevalue(which)
    supernet = supernet_of(genotype)
    randomize(supernet)
    found = AutoDeepLab(genotype=genotype, size=2, stem=STEM)
    move(supernet, found)
    supernet.hold(genotype)
    supernet.train(training)
    found.train(training)
    image = torch.randn(2, 3, *size)
    given = [each for each in supernet(image) if len(each)]
    assert len(given) == 1
    wanted = found(image)[-1]
    assert given[0].shape == wanted.shape
    torch.testing.assert_close(given[0], wanted, rtol=1e-5, atol=1e-6)
    if training:  # the running statistics followed alike
        supernet.eval()
        found.eval()
        torch.testing.assert_close(
            next(each for each in supernet(image) if len(each)), found(image)[-1], rtol=1e-5, atol=1e-5
        )


def sum_of_operations(mixture: Mixture, state: Tensor, weights: Tensor, row: int) -> Tensor:
    """One edge, operation by operation, from their definition."""
    channels = state.shape[1]

    def cut(layer: nn.Conv2d) -> Tensor:
        return layer.weight.view(mixture.edges, -1, *layer.weight.shape[1:])[row]

    def normal(feature: Tensor) -> Tensor:
        mean = feature.mean((0, 2, 3), keepdim=True)
        variance = feature.var((0, 2, 3), keepdim=True, unbiased=False)
        return (feature - mean) / (variance + 1e-3).sqrt()

    def separable(size: int) -> Tensor:
        parts, feature = mixture.convolutions[f"separable_{size}x{size}"], state
        for number in range(2):
            stride = mixture.stride if number == 0 else 1
            feature = F.conv2d(
                F.relu(feature), cut(parts.depthwise[number]), stride=stride, padding=size // 2, groups=channels
            )
            feature = normal(F.conv2d(feature, cut(parts.pointwise[number])))
        return feature

    def atrous(size: int) -> Tensor:
        layer = mixture.convolutions[f"atrous_{size}x{size}"].convolution
        # at stride 2 the same filter on the same places: rate 2, every second result
        return normal(F.conv2d(F.relu(state), cut(layer), stride=mixture.stride, dilation=2, padding=size // 2 * 2))

    average = F.avg_pool2d(state, 3, mixture.stride, 1, count_include_pad=False)
    results = {
        "separable_3x3": separable(3),
        "separable_5x5": separable(5),
        "atrous_3x3": atrous(3),
        "atrous_5x5": atrous(5),
        "average_pooling_3x3": normal(average),
        "max_pooling_3x3": normal(F.max_pool2d(state, 3, mixture.stride, 1)),
        "skip": state[..., :: mixture.stride, :: mixture.stride],
        "none": torch.zeros(()),
    }
    return sum(weight * results[kind] for weight, kind in zip(weights[row], Operation, strict=True))


@pytest.mark.parametrize("stride", [1, 2])
def test_a_mixture_is_the_sum_of_its_operations(stride: int) -> None:
    torch.manual_seed(0)
    mixture = Mixture(3, 4, stride=stride).double()
    state = torch.randn(2, 3, 11, 9, dtype=torch.float64)
    weights = torch.randn(4, 8, dtype=torch.float64).softmax(1)
    for row, result in enumerate(mixture(state, weights)):
        torch.testing.assert_close(result, sum_of_operations(mixture, state, weights, row))


def test_chosen_operations_are_the_mixture_with_weights_of_one_and_zero() -> None:
    torch.manual_seed(0)
    mixture = Mixture(3, 4)
    randomize(mixture)
    state = torch.randn(2, 3, 11, 9)
    chosen = [(Operation.ATROUS_5X5,), (Operation.SEPARABLE_3X3, Operation.MAX_POOLING), (), (Operation.NONE,)]
    weights = torch.tensor([[float(kind in kinds) for kind in Operation] for kinds in chosen])
    for training in (False, True):
        mixture.train(training)
        whole, some = mixture(state, weights), mixture(state, torch.ones(4, 8), chosen)
        assert some[2] is None
        for row in (0, 1, 3):
            torch.testing.assert_close(some[row], whole[row], rtol=1e-5, atol=1e-5)


def test_statistics_of_a_part_are_those_of_the_whole() -> None:
    torch.manual_seed(0)
    one, other = PlainNorm(2, 3), PlainNorm(2, 3)
    feature = torch.randn(4, 6, 5, 5)
    one(feature, (0, 1, 2))
    other(feature[:, [0, 1, 4, 5]], (0, 2))
    for name in ("running_mean", "running_var"):
        whole, part = one.get_buffer(name).view(3, 2), other.get_buffer(name).view(3, 2)
        torch.testing.assert_close(part[[0, 2]], whole[[0, 2]])
        assert torch.equal(part[1], PlainNorm(2).get_buffer(name))


def all_of_it(supernet: Supernet, image: Tensor) -> dict[int, Tensor]:
    """The formula for cells, written out: every cell from three, every input at its own stride or the nearest."""
    half, quarter = supernet.stem(image)
    maps: dict[tuple[int, int], Tensor] = {(-2, 2): half, (-1, 4): quarter}
    alpha, beta = supernet.architecture.alpha.softmax(1), supernet.architecture.beta
    for layer in range(supernet.trellis.layers):
        for stride in (4, 8, 16, 32)[: layer + 1]:
            total = 0.0
            for before in (stride // 2, stride, 2 * stride):
                if (layer - 1, before) not in maps:
                    continue
                weight = 1.0
                if layer:
                    out = [s for s in (before // 2, before, 2 * before) if s in (4, 8, 16, 32)[: layer + 1]]
                    logits = torch.stack([beta[layer - 1, before.bit_length() - 3, _place(before, s)] for s in out])
                    weight = logits.softmax(0)[out.index(stride)]
                second = min((s for at, s in maps if at == layer - 2), key=lambda s: max(s / stride, stride / s))
                cell = supernet.layers[layer].cells[f"{before} to {stride}"]
                size = tuple(-(-extent // min(before, stride)) for extent in image.shape[-2:])
                total = total + weight * cell(
                    maps[layer - 1, before], maps[layer - 2, second], second, size, alpha, None
                )
            maps[layer, stride] = total
    return {stride: each for (layer, stride), each in maps.items() if layer == supernet.trellis.layers - 1}


def _place(before: int, after: int) -> int:
    return {before // 2: 0, before: 1, 2 * before: 2}[after]


def test_the_whole_trellis_beside_the_formula() -> None:
    torch.manual_seed(0)
    supernet = Supernet(layers=5, width=1, blocks=2, stem=STEM).eval()
    randomize(supernet)
    supernet.architecture.beta.normal_()
    supernet.architecture.alpha.normal_()
    image = torch.randn(1, 3, 65, 97)
    wanted = all_of_it(supernet, image)
    found = dict(zip([spec.stride for spec in supernet.features], supernet(image), strict=True))
    assert found.keys() == wanted.keys() == {4, 8, 16, 32}
    for stride, each in wanted.items():
        assert found[stride].shape == (1, 2 * stride // 4, *each.shape[-2:])
        torch.testing.assert_close(found[stride], each, rtol=1e-4, atol=1e-5)


def gradients(supernet: Supernet, image: Tensor) -> tuple[Tensor, Tensor]:
    architecture = supernet.architecture
    for parameter in (architecture.alpha, architecture.beta):
        parameter.requires_grad_(True)
    total = sum((each**2).sum() for each in supernet(image))
    alpha, beta = torch.autograd.grad(total, (architecture.alpha, architecture.beta))
    return alpha, beta


def test_every_alpha_and_beta_gets_a_gradient() -> None:
    torch.manual_seed(0)
    supernet = Supernet(layers=5, width=2, blocks=3, stem=STEM)
    alpha, beta = gradients(supernet, torch.randn(2, 3, 65, 65))
    assert (alpha != 0).all()
    several = supernet.architecture.possible.sum(2, keepdim=True) > 1
    assert torch.equal(beta != 0, supernet.architecture.possible & several)


def test_gradients_beside_finite_differences() -> None:
    torch.manual_seed(0)
    supernet = Supernet(layers=3, width=1, blocks=2, stem=(2, 2, 2)).double().eval()
    randomize(supernet)
    supernet.architecture.alpha.normal_()
    supernet.architecture.beta.normal_()
    image = torch.randn(1, 3, 33, 33, dtype=torch.float64)
    found = gradients(supernet, image)
    for parameter, gradient in zip((supernet.architecture.alpha, supernet.architecture.beta), found, strict=True):
        parameter.requires_grad_(False)
        for place in torch.randperm(parameter.numel())[:12].tolist():
            values = []
            for step in (1e-5, -2e-5):
                parameter.view(-1)[place] += step
                values.append(float(sum((each.detach() ** 2).sum() for each in supernet(image))))
            parameter.view(-1)[place] += 1e-5
            assert (values[0] - values[1]) / 2e-5 == pytest.approx(float(gradient.view(-1)[place]), rel=1e-4, abs=1e-5)


def test_a_sample_is_one_network() -> None:
    torch.manual_seed(0)
    supernet = Supernet(layers=4, width=2, blocks=3, stem=STEM, sampling="gumbel")
    image = torch.randn(2, 3, 65, 65)
    ends = set()
    for _ in range(12):
        given = [spec.stride for spec, each in zip(supernet.features, supernet(image), strict=True) if len(each)]
        assert len(given) == 1
        ends.add(given[0])
    assert len(ends) > 1
    alpha, beta = gradients(supernet, image)
    assert ((alpha != 0).sum(1) > 1).any()
    assert (beta.flatten(1) != 0).any(1).sum() >= 2
    supernet.eval()
    assert torch.equal(
        next(each for each in supernet(image) if len(each)), next(each for each in supernet(image) if len(each))
    )


def test_what_is_sampled_is_computed_and_follows_the_weights() -> None:
    torch.manual_seed(0)
    supernet = Supernet(layers=2, width=1, blocks=1, stem=STEM, sampling="gumbel")
    supernet.architecture.alpha.normal_()
    supernet.architecture.beta.normal_()
    plans = [supernet._plan() for _ in range(3000)]
    weights, share = supernet.architecture.operation_weights(), supernet.architecture.path_weights()[0, 0, 2]
    for column, kind in enumerate(Operation):
        found = sum(plan.chosen[0] == (kind,) for plan in plans) / 3000
        assert found == pytest.approx(float(weights[0, column]), abs=0.04)
        assert all(float(plan.operations[0, column]) == (plan.chosen[0] == (kind,)) for plan in plans)
    assert sum(plan.path == (4, 8) for plan in plans) / 3000 == pytest.approx(float(share), abs=0.04)


def test_partial_channels_change_places_between_blocks() -> None:
    assert _shuffled(torch.arange(8.0).view(1, 8, 1, 1), 4).flatten().tolist() == [0, 2, 4, 6, 1, 3, 5, 7]
    torch.manual_seed(0)
    cell = Supernet(layers=1, width=4, blocks=2, stem=STEM, partial_channels=4).layers[0].cells["4 to 4"].eval()
    skip = torch.tensor([[0.0] * 6 + [1.0, 0.0]] * 5)
    result = cell(torch.randn(1, 8, 9, 9), torch.randn(1, 6, 17, 17), 2, (9, 9), skip, None)
    one, two = result.chunk(2, dim=1)  # two = both inputs + block one, its channels in another order
    torch.testing.assert_close(two, one + _shuffled(one, 4))


def test_partial_channels_pass_the_others_on() -> None:
    torch.manual_seed(0)
    supernet = Supernet(layers=3, width=4, blocks=2, stem=STEM, partial_channels=4).train()
    whole = Supernet(layers=3, width=4, blocks=2, stem=STEM)
    assert [each.shape for each in supernet(torch.randn(2, 3, 65, 65))] == [
        each.shape for each in whole(torch.randn(2, 3, 65, 65))
    ]
    cell = supernet.layers[0].cells["4 to 4"].eval()
    first, second = torch.randn(1, 8, 9, 9), torch.randn(1, 6, 17, 17)
    nothing = torch.tensor([0.0] * 7 + [1.0]).expand(5, 8)
    result = cell(first, second, 2, (9, 9), nothing, None)
    states = cell.first(first, (9, 9)) + cell.seconds["2"](second, (9, 9))
    assert torch.equal(result[:, 0], torch.zeros(1, 9, 9))
    torch.testing.assert_close(result[:, 1:4], states[:, 1:])


@pytest.mark.parametrize("layers", [1, 3])
def test_less_memory_and_the_same_gradients(layers: int) -> None:
    torch.manual_seed(0)
    plain = Supernet(layers=layers, width=2, blocks=2, stem=STEM)
    Segmentor(backbone=plain, head=partial(SearchHead, aspp_channels=4), num_classes=3)  # joins batch norms and ReLUs
    recomputing = copy.deepcopy(plain).train()
    plain.train()
    recompute_in_backward(recomputing.units())
    image = torch.randn(2, 3, 33, 33)
    for network in (plain, recomputing):
        sum((each**2).mean() for each in network(image)).backward()
    for (name, one), other in zip(plain.named_parameters(), recomputing.parameters(), strict=True):
        if one.requires_grad:
            torch.testing.assert_close(other.grad, one.grad, msg=name)
    for (name, one), other in zip(plain.named_buffers(), recomputing.buffers(), strict=True):
        torch.testing.assert_close(other, one, msg=name)


def test_a_second_input_without_weights_counts_as_nothing(varied: Genotype) -> None:
    supernet = supernet_of(varied, sampling="all").eval()
    randomize(supernet)
    supernet.hold(varied)
    image = torch.randn(1, 3, 65, 65)
    (given,) = [each for each in supernet(image) if len(each)]
    assert given.isfinite().all()
    supernet.hold(None)
    assert all(len(each) for each in supernet(image))


def test_what_is_not_part_of_it(varied: Genotype, paper: Genotype) -> None:
    supernet = supernet_of(varied)
    with pytest.raises(AtrousError, match="12 layers and 5 blocks, the searched network 6 and 4"):
        supernet.hold(paper)
    with pytest.raises(AtrousError, match="begins at stride 8"):
        supernet.hold(Genotype((8, 8, 8, 8, 8, 8), varied.blocks))
    twice = ((varied.blocks[0][0],) * 2, *varied.blocks[1:])
    with pytest.raises(AtrousError, match="block 1 of the genotype has max_pooling_3x3 on l-1 twice"):
        supernet.hold(Genotype(varied.strides, twice))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"layers": 0}, "search.layers=0"),
        ({"width": 0}, "search.width=0"),
        ({"blocks": 0}, "search.blocks=0"),
        ({"temperature": 0.0}, "search.temperature"),
        ({"sampling": "some"}, "search.sampling=some is unknown"),
        ({"partial_channels": 3}, "search.partial_channels=3 does not divide search.width=8"),
        ({"stem": (8, 8)}, "three convolutions"),
    ],
)
def test_impossible_values(options: dict[str, object], says: str) -> None:
    with pytest.raises(AtrousError, match=says):
        Supernet(**{"layers": 2, "blocks": 1, **options})


def test_output_stride_is_refused() -> None:
    supernet = Supernet(layers=4, width=1, blocks=1, stem=STEM)
    supernet.set_output_stride(32)
    with pytest.raises(AtrousError, match="output stride 16 is impossible"):
        supernet.set_output_stride(16)


def test_scores_of_a_searched_network() -> None:
    """96/s: rates 24, 12, 6 and 3."""
    torch.manual_seed(0)
    supernet = Supernet(layers=4, width=1, blocks=1, stem=STEM)
    segmentor = Segmentor(backbone=supernet, head=partial(SearchHead, aspp_channels=4), num_classes=3)
    rates = [aspp.atrous[0][0].dilation for aspp in segmentor.head.aspps]
    assert rates == [(24, 24), (12, 12), (6, 6), (3, 3)]
    assert segmentor(torch.rand(2, 3, 50, 70) * 255).shape == (2, 3, 50, 70)
    assert segmentor(torch.rand(2, 3, 50, 70) * 255, outputs="map").shape == (2, 3, 17, 25)
    with pytest.raises(AtrousError, match="output_stride=null"):
        segmentor.head.set_output_stride(16)
