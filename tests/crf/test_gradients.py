"""Gradients against automatic differentiation through dense matrices in float64."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from atrous.crf import Bilateral, DenseCRF, Gaussian, Neighbors
from atrous.crf import native_backend as native

Scene = Callable[..., tuple[Tensor, Tensor]]
BACKENDS = ["torch", pytest.param("native", marks=pytest.mark.skipif(native.library() is None, reason="no compiler"))]
KERNELS = (Bilateral(weight=4, sigma_xy=6, sigma_rgb=20), Gaussian(weight=3, sigma=2))


def dense(scores: Tensor, matrices: list[Tensor], weights: list[Tensor], penalties: Tensor, iterations: int) -> Tensor:
    """Mean field as it is written down, N×C."""
    now = scores
    for _ in range(iterations):
        beliefs = now.softmax(dim=1)
        message = sum(matrix @ beliefs @ weight.T for matrix, weight in zip(matrices, weights, strict=True))
        now = scores - message @ penalties.T
    return now


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("normalization", ["symmetric", "after", "before"])
def test_all_gradients(scene: Scene, slow: SimpleNamespace, backend: str, normalization: str) -> None:
    logits, image = scene(24, 32)
    crf = DenseCRF(
        kernels=KERNELS,
        iterations=5,
        normalization=normalization,
        trainable=["weights", "compatibility"],
        backend=backend,
    ).learnable(4)
    assert {name: tuple(each.shape) for name, each in crf.named_parameters()} == {
        "weight_0": (4, 4),
        "weight_1": (4, 4),
        "compatibility": (4, 4),
    }
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in crf.parameters():  # asymmetric, so that no transposed matrix passes for the right one
            parameter += 0.3 * torch.randn(4, 4, generator=generator)
    slopes = torch.randn(24 * 32, 4, generator=generator).double()
    matrices = [
        torch.from_numpy(slow.normalized(slow.lattice_matrix(kernel, image), normalization)) for kernel in KERNELS
    ]
    rows = logits[0].flatten(1).T.double().requires_grad_()
    doubles = [parameter.detach().double().requires_grad_() for parameter in crf.parameters()]
    weights, penalties = doubles[:2], doubles[2]
    if next(iter(dict(crf.named_parameters()))) == "compatibility":
        weights, penalties = doubles[1:], doubles[0]
    wanted = dense(rows, matrices, weights, penalties, 5)
    (wanted * slopes).sum().backward()
    # ours in float64, so that float32's amplified roundings do not count
    given = logits.double().requires_grad_()
    got = crf(given, image)
    (got[0].flatten(1).T * slopes).sum().backward()
    for ours, theirs in [
        (given.grad[0].flatten(1).T, rows.grad),
        *((parameter.grad, each.grad) for parameter, each in zip(crf.parameters(), doubles, strict=True)),
    ]:
        assert ours is not None
        assert theirs is not None
        assert theirs.norm() > 0
        assert (ours.double() - theirs).norm() <= 1e-5 * theirs.norm()
    torch.testing.assert_close(got[0].flatten(1).T, wanted, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_forward_order_of_the_blurs_would_be_seen(scene: Scene, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above would fail if gradients blurred along the axes in the forward order."""
    logits, image = scene(24, 32)
    crf = DenseCRF(kernels=KERNELS[:1], iterations=2, backend=backend)

    def gradient() -> Tensor:
        scores = logits.double().requires_grad_()
        crf(scores, image)[:, 0].square().sum().backward()
        assert scores.grad is not None
        return scores.grad

    right = gradient()
    kind = type(crf.prepare(image).groups[0][0])
    apply = kind.__call__
    monkeypatch.setattr(kind, "__call__", lambda self, values, *, transposed=False: apply(self, values))
    assert (gradient() - right).norm() > 1e-3 * right.norm()


def test_fixed_numbers_get_no_gradient_and_are_no_parameters(scene: Scene) -> None:
    logits, image = scene(8, 9)
    crf = DenseCRF().learnable(4)
    assert list(crf.parameters()) == []
    scores = logits.requires_grad_()
    crf(scores, image).square().sum().backward()
    assert scores.grad is not None
    assert scores.grad.abs().min() >= 0
    assert torch.equal(crf(logits, image), DenseCRF()(logits, image))


def test_neighbors_have_gradients_too(scene: Scene) -> None:
    logits, image = scene(5, 6, 3)
    crf = DenseCRF(kernels=[Neighbors(weight=0.5, sigma_rgb=60)], iterations=2, normalization="none", backend="torch")
    assert torch.autograd.gradcheck(lambda scores: crf(scores, image), (logits.double().requires_grad_(),), atol=1e-4)


def test_what_learns_begins_as_what_is_fixed(scene: Scene) -> None:
    logits, image = scene(20, 25)
    fixed = DenseCRF(kernels=KERNELS)(logits.double(), image).softmax(1)
    for trainable in (["weights"], ["compatibility"], ["weights", "compatibility"]):
        crf = DenseCRF(kernels=KERNELS, trainable=trainable)
        assert list(crf.parameters()) == []
        torch.testing.assert_close(crf(logits.double(), image).softmax(1), fixed)
        learnable = crf.learnable(4)
        torch.testing.assert_close(learnable(logits.double(), image).softmax(1), fixed, atol=1e-5, rtol=1e-5)
        assert len(list(learnable.parameters())) == 2 * ("weights" in trainable) + ("compatibility" in trainable)
        assert "learned" in learnable.description


def test_training_may_take_fewer_iterations(scene: Scene) -> None:
    logits, image = scene(12, 15)
    crf = DenseCRF(training_iterations=2)
    assert torch.equal(crf(logits, image), DenseCRF()(logits, image))  # it is not in training by itself
    assert crf.learnable(4).training
    assert torch.equal(crf.train()(logits, image), DenseCRF(iterations=2)(logits, image))
    assert torch.equal(crf.eval()(logits, image), DenseCRF()(logits, image))


def test_learning_lowers_a_loss(scene: Scene) -> None:
    """From weights that are far too large."""
    logits, image = scene(30, 40, 3)
    truth = logits.argmax(dim=1)
    noisy = logits + 2 * torch.randn(logits.shape, generator=torch.Generator().manual_seed(0))
    kernels = (Bilateral(weight=12, sigma_xy=6, sigma_rgb=20), Gaussian(weight=0, sigma=1))
    crf = DenseCRF(kernels=kernels, iterations=5, trainable=["weights", "compatibility"]).learnable(3)
    optimizer = torch.optim.Adam(crf.parameters(), lr=0.1)
    losses = []
    for _ in range(40):
        loss = torch.nn.functional.cross_entropy(crf(noisy, image), truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < 0.6 * losses[0]
