"""The compiled kernel against PyTorch's operators: the same lattice, the same sums, on one thread and on two."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from atrous.crf import Bilateral, DenseCRF, Gaussian, Neighbors
from atrous.crf import native_backend as native
from atrous.crf.filter import LatticeFilter
from atrous.crf.lattice import build_lattice
from atrous.crf.native_backend import NativeFilter
from atrous.errors import AtrousError

Scene = Callable[..., tuple[Tensor, Tensor]]
pytestmark = pytest.mark.skipif(native.library() is None, reason="no compiler")
NORMALIZATIONS = ("symmetric", "after", "before", "none")


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def features_of(image: Tensor) -> Tensor:
    return Bilateral(sigma_xy=6, sigma_rgb=20).features(image)


@pytest.mark.parametrize("dimensions", [1, 2, 3, 5, 6])
def test_the_lattice_is_the_same(dimensions: int, threads: int) -> None:
    generator = torch.Generator().manual_seed(dimensions)
    features = torch.randn(1, 500, dimensions, generator=generator) * 4 * torch.rand(dimensions, generator=generator)
    lattice, kernel = build_lattice(features), NativeFilter(features[0], "none")
    assert kernel.size == lattice.size
    vertices, starts, pixels, chains, lengths = kernel._indices
    into, out_of = kernel._shares
    assert torch.equal(out_of, lattice.shares / (1 + 2.0**-dimensions))  # bit by bit
    renamed = torch.full((lattice.size,), -1, dtype=torch.long)
    renamed[lattice.vertices.flatten().long()] = vertices[:500].flatten().long()
    assert torch.equal(renamed[lattice.vertices.long()], vertices[:500].long())
    assert sorted(renamed.tolist()) == list(range(lattice.size))
    for vertex in range(lattice.size):
        listed = slice(int(starts[vertex]), int(starts[vertex + 1]))
        at, corner = (vertices[:500] == vertex).nonzero(as_tuple=True)
        assert torch.equal(pixels[listed].long(), at)
        assert torch.equal(into[listed], lattice.shares[at, corner])
    for axis, around in enumerate(lattice.around[:, :-1].long()):
        wanted = {(int(renamed[v]), int(renamed[after])) for v, _, after in around.tolist() if after < lattice.size}
        found, start = set(), axis * kernel.size
        listed = chains[start : start + int(lengths[axis])].tolist()
        for one, other in itertools.pairwise(listed):
            if one >= 0:
                found.add((one, other if other >= 0 else ~other))
        assert found == wanted


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("classes", [1, 7, 8, 9, 24, 33, 70, 150])
def test_filters_are_the_same(scene: Scene, threads: int, normalization: Any, classes: int) -> None:
    _, image = scene(30, 37)
    features = features_of(image)
    slow, fast = LatticeFilter(build_lattice(features), normalization), NativeFilter(features[0], normalization)
    values = torch.rand(30 * 37, classes, generator=torch.Generator().manual_seed(0))
    for transposed in (False, True):
        wanted = slow(values, transposed=transposed)
        torch.testing.assert_close(fast(values, transposed=transposed), wanted, atol=1e-5, rtol=1e-5)
    assert (slow(values) - slow(values, transposed=True)).abs().max() > 1e-3
    assert fast(values.double()).dtype == torch.float64


@pytest.mark.parametrize("classes", [1, 2, 8, 9, 21, 40])
def test_mean_field_is_the_same_and_does_not_depend_on_threads(scene: Scene, threads: int, classes: int) -> None:
    logits, image = scene(41, 57, classes, batch=2)
    slow, fast = (DenseCRF(backend=name, iterations=3) for name in ("torch", "native"))
    got = fast(logits, image)
    torch.testing.assert_close(got.softmax(1), slow(logits, image).softmax(1), atol=2e-5, rtol=0)
    torch.set_num_threads(1)
    assert torch.equal(fast(logits, image), got)
    assert (got - logits).abs().max() > 0.1


@pytest.mark.parametrize(
    "options",
    [
        {"compatibility": [1.0, 0.5, 2.0, 0.0]},
        {"kernels": [Bilateral(weight=[4.0, 1.0, 0.0, 2.0]), Gaussian()]},
        {"compatibility": [[0.0, 1.0, 2.0, 1.0], [1.0, 0.0, 0.5, 1.0], [2.0, 0.5, 0.0, 0.2], [1.0, 1.0, 0.2, 0.0]]},
        {"kernels": [Bilateral(), Neighbors()]},
        {"kernels": []},
        {"iterations": 0},
        {"normalization": "after"},
    ],
    ids=["compatibility", "weights", "pairs", "neighbors", "no kernels", "no steps", "after"],
)
def test_all_forms_are_the_same(scene: Scene, options: dict[str, Any]) -> None:
    logits, image = scene(20, 30)
    slow, fast = (DenseCRF(**options, backend=name) for name in ("torch", "native"))
    torch.testing.assert_close(fast(logits, image).softmax(1), slow(logits, image).softmax(1), atol=2e-5, rtol=0)


def test_very_sure_scores_stay_sure(scene: Scene) -> None:
    """Its own exponential function, far from zero."""
    _, image = scene(10, 12)
    logits = torch.zeros(1, 3, 10, 12)
    logits[:, 1] = 1e4
    logits[:, 2] = -1e4
    got = DenseCRF(backend="native")(logits, image, gives="probabilities")
    assert torch.equal(got, torch.tensor([0.0, 1.0, 0.0]).view(1, 3, 1, 1).expand_as(got))


def test_auto_takes_it_where_it_is_ready(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    logits, image = scene(8, 9)
    assert isinstance(DenseCRF().prepare(image), native.NativeFilters)
    slow = DenseCRF(backend="torch")(logits, image)
    monkeypatch.setattr(native, "library", lambda: None)
    assert not isinstance(DenseCRF().prepare(image), native.NativeFilters)
    assert torch.equal(DenseCRF()(logits, image), slow)
    with pytest.raises(AtrousError, match=r"crf\.backend=native needs a C\+\+ compiler"):
        DenseCRF(backend="native")(logits, image)


def test_it_is_for_a_cpu(scene: Scene) -> None:
    _, image = scene(8, 9)
    with pytest.raises(AtrousError, match="computes on a CPU, but the image is on meta"):
        native.NativeBackend().prepare(image.to("meta"), [Gaussian()], "after")


def test_features_too_far_apart_are_refused(scene: Scene) -> None:
    logits, image = scene(8, 9)
    for backend in ("torch", "native"):
        with pytest.raises(AtrousError, match="standard deviations of a CRF kernel are too small"):
            DenseCRF(kernels=[Bilateral(sigma_rgb=1e-4, sigma_xy=1e-3)], backend=backend)(logits, image)
