"""Filters against their definitions, their transposes and the Gaussians that they stand for."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from atrous.crf import Bilateral, Gaussian, Neighbors
from atrous.crf.filter import Filter, LatticeFilter, NeighborFilter, filtered
from atrous.crf.kernels import FeatureKernel
from atrous.crf.lattice import build_lattice

Scene = Callable[..., tuple[Tensor, Tensor]]
NORMALIZATIONS = ("symmetric", "after", "before", "none")
KERNELS = (Gaussian(sigma=2.0), Bilateral(sigma_xy=6, sigma_rgb=20), Neighbors(count=8, sigma_rgb=30))


def make(kernel: object, image: Tensor, normalization: str) -> Filter:
    if isinstance(kernel, Neighbors):
        return NeighborFilter(image, kernel, normalization)
    assert isinstance(kernel, FeatureKernel)
    return LatticeFilter(build_lattice(kernel.features(image)), normalization)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("kernel", KERNELS[:2], ids=["gaussian", "bilateral"])
def test_filters_do_what_the_slow_way_does(
    scene: Scene, slow: SimpleNamespace, kernel: FeatureKernel, normalization: str
) -> None:
    _, image = scene(9, 11)
    values = torch.randn(99, 5, generator=torch.Generator().manual_seed(0)).double()
    matrix = slow.normalized(slow.lattice_matrix(kernel, image), normalization)
    fast = make(kernel, image, normalization)
    np.testing.assert_allclose(fast(values), matrix @ values.numpy(), atol=2e-6, rtol=2e-6)
    np.testing.assert_allclose(fast(values, transposed=True), matrix.T @ values.numpy(), atol=2e-6, rtol=2e-6)
    assert np.abs(matrix - matrix.T).max() > 1e-3  # or the direction of the blurs would not be seen


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("count", [4, 8])
@pytest.mark.parametrize("sigma", [30.0, None])
def test_neighbors_are_those_beside_a_pixel(
    scene: Scene, slow: SimpleNamespace, count: int, sigma: float | None, normalization: str
) -> None:
    _, image = scene(5, 7)
    color = image[0].permute(1, 2, 0).double().numpy().reshape(-1, 3)
    matrix = np.zeros((35, 35))
    for i in range(35):
        for j in range(35):
            down, across = i // 7 - j // 7, i % 7 - j % 7
            if i != j and max(abs(down), abs(across)) == 1 and (count == 8 or abs(down) + abs(across) == 1):
                near = 1.0 if sigma is None else np.exp(-np.square(color[i] - color[j]).sum() / (2 * sigma**2))
                matrix[i, j] = near / np.hypot(down, across)
    matrix = slow.normalized(matrix, normalization)
    values = torch.randn(35, 3, generator=torch.Generator().manual_seed(0)).double()
    fast = make(Neighbors(count=count, sigma_rgb=sigma), image, normalization)
    np.testing.assert_allclose(fast(values), matrix @ values.numpy(), atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(fast(values, transposed=True), matrix.T @ values.numpy(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("kernel", KERNELS, ids=["gaussian", "bilateral", "neighbors"])
def test_the_transposed_filter_is_the_adjoint(scene: Scene, kernel: object, normalization: str) -> None:
    """⟨Wx, y⟩ = ⟨x, Wᵀy⟩."""
    _, image = scene(40, 50)
    generator = torch.Generator().manual_seed(1)
    x, y = torch.rand(2, 2000, 4, generator=generator)
    fast = make(kernel, image, normalization)
    forth, back = (fast(x).double() * y).sum(), (x * fast(y, transposed=True).double()).sum()
    assert abs(forth - back) < 1e-5 * abs(forth)


@pytest.mark.parametrize("kernel", KERNELS[:2], ids=["gaussian", "bilateral"])
def test_a_filter_is_near_the_gaussian_that_it_stands_for(
    scene: Scene, slow: SimpleNamespace, kernel: FeatureKernel
) -> None:
    """After normalization; without, its sums are larger by a factor that hardly depends on the pixel."""
    _, image = scene(24, 24)
    values = torch.rand(576, 3, generator=torch.Generator().manual_seed(0)).numpy()
    exact = slow.gaussian(kernel, image)
    wanted = slow.normalized(exact, "after") @ values
    got = make(kernel, image, "after")(torch.from_numpy(values)).numpy()
    assert np.corrcoef(got.ravel(), wanted.ravel())[0, 1] > 0.95
    assert np.abs(got - wanted).mean() < 0.1 * wanted.std() + 0.02
    sums = make(kernel, image, "none")(torch.ones(576, 1)).numpy().ravel()
    assert np.corrcoef(np.log(sums), np.log(exact.sum(axis=1)))[0, 1] > 0.85


def test_a_gradient_passes_a_filter(scene: Scene) -> None:
    _, image = scene(6, 8)
    kernel = make(KERNELS[1], image, "after")
    values = torch.rand(48, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda each: filtered(each, kernel), (values,))
    with torch.inference_mode():
        inside = make(KERNELS[1], image, "after")
    filtered(values, inside).sum().backward()  # a lattice that was prepared without gradients
    assert values.grad is not None
