"""What each approximation changes, and that it saves what it promises to save."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from atrous.crf import Bilateral, DenseCRF, Gaussian
from atrous.crf import native_backend as native
from atrous.crf.approximations import without_unlikely
from atrous.crf.filter import LatticeFilter
from atrous.crf.mean_field import Pairwise
from atrous.errors import AtrousError

Scene = Callable[..., tuple[Tensor, Tensor]]
BACKENDS = ["torch", pytest.param("native", marks=pytest.mark.skipif(native.library() is None, reason="no compiler"))]


@pytest.fixture
def peaked(scene: Scene) -> tuple[Tensor, Tensor]:
    """Twenty-one labels, of which five reach one percent."""
    logits, image = scene(50, 60, 21, batch=2)
    logits[:, 5:] = logits[:, 5:].clamp(max=0) - 8
    assert int((logits.softmax(1).amax(dim=(0, 2, 3)) > 0.01).sum()) == 5
    return logits, image


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("least", "bound"), [(0.01, 1e-3), (0.05, 5e-2)])
def test_pruned_labels_hardly_matter(
    peaked: tuple[Tensor, Tensor], backend: str, least: float, bound: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits, image = peaked
    wanted = DenseCRF(backend=backend)(logits, image, gives="probabilities")
    widths: list[int] = []
    if backend == "torch":
        apply = LatticeFilter.__call__

        def watched(self: Any, values: Tensor, **options: Any) -> Tensor:
            widths.append(values.shape[1])
            return apply(self, values, **options)

        monkeypatch.setattr(LatticeFilter, "__call__", watched)
    got = DenseCRF(backend=backend, prune=least)(logits, image, gives="probabilities")
    assert (got - wanted).abs().max() <= bound
    assert not torch.equal(got, wanted)
    torch.testing.assert_close(got.sum(dim=1), torch.ones(2, 50, 60))
    assert set(widths) <= {1, 4, 5, 6}  # ones for the scale; labels and the rest


@pytest.mark.parametrize(("least", "kept"), [(0.029, 3), (0.031, 2), (0.3, 2)])
def test_labels_that_reach_the_probability_somewhere_are_kept(least: float, kept: int) -> None:
    probabilities = torch.tensor([0.5, 0.44, 0.03, 0.02, 0.01]).view(1, 5, 1, 1).expand(1, 5, 2, 2)
    widths: list[int] = []

    def solve(scores: Tensor, pairwise: Pairwise) -> Tensor:
        widths.append(scores.shape[1] - 1)  # without the one for the rest
        return scores

    pairwise = Pairwise([torch.tensor(1.0)], None, 1)
    same = without_unlikely(probabilities.log(), pairwise, solve, least=least)
    torch.testing.assert_close(same, probabilities.log())
    assert widths == [kept]


def test_numbers_for_each_class_follow_their_class(peaked: tuple[Tensor, Tensor]) -> None:
    logits, image = peaked
    logits = logits.flip(1)  # the labels that are kept come last
    gains = torch.linspace(0.5, 1.5, 21).tolist()
    for options in (
        {"compatibility": gains},
        {"kernels": [Bilateral(weight=gains), Gaussian()], "compatibility": gains[::-1]},
    ):
        wanted = DenseCRF(**options)(logits, image, gives="probabilities")
        got = DenseCRF(**options, prune=0.01)(logits, image, gives="probabilities")
        assert (got - wanted).abs().max() <= 1e-3


def test_nothing_is_pruned_where_all_labels_count(scene: Scene) -> None:
    logits, image = scene(20, 30)
    assert torch.equal(DenseCRF(prune=1e-9)(logits, image), DenseCRF()(logits, image))
    flat = torch.zeros(1, 4, 20, 30)
    assert torch.equal(DenseCRF(prune=0.9)(flat, image), DenseCRF()(flat, image))


def test_pruning_is_refused_where_it_would_be_wrong(scene: Scene) -> None:
    logits, image = scene(6, 7, 2)
    for options in ({"compatibility": [[0.0, 1.0], [1.0, 0.0]]}, {"trainable": ["weights"]}):
        with pytest.raises(AtrousError, match=r"crf\.prune=0.01 leaves out labels that pairs of classes and gradients"):
            DenseCRF(prune=0.01, **options)
    with pytest.raises(AtrousError, match="labels that gradients need"):
        DenseCRF(prune=0.01)(logits.requires_grad_(), image)
    for prune in (0, 1):
        with pytest.raises(AtrousError, match=r"crf\.prune"):
            DenseCRF(prune=prune)


@pytest.mark.skipif(
    native.library() is None or not native.library().has_half_precision(),
    reason="no compiler, or no half precision",
)
def test_half_precision_between_steps(scene: Scene) -> None:
    logits, image = scene(60, 80, 21)
    wanted = DenseCRF()(logits, image, gives="probabilities")
    got = DenseCRF(storage="float16")(logits, image, gives="probabilities")
    assert (got - wanted).abs().max() <= 0.1
    assert (got - wanted).abs().mean() <= 1e-3
    assert (got.argmax(1) != wanted.argmax(1)).float().mean() <= 1e-3
    assert not torch.equal(got, wanted)


def test_half_precision_is_refused_where_nothing_keeps_it(scene: Scene) -> None:
    logits, image = scene(6, 7, 2)
    with pytest.raises(AtrousError, match=r"crf\.storage=float16 is for backend=native"):
        DenseCRF(storage="float16", backend="torch")(logits, image)
    with pytest.raises(AtrousError, match=r"crf\.storage=float8 is unknown: choose float32, float16"):
        DenseCRF(storage="float8")


@pytest.mark.parametrize("backend", BACKENDS)
def test_half_resolution_is_the_crf_of_the_small_image(scene: Scene, backend: str) -> None:
    """What neighbors say is that of a CRF on half the image, in between by interpolation."""
    logits, image = scene(41, 60)
    got = DenseCRF(resolution=0.5, backend=backend)(logits, image)
    resize = {"size": (20, 30), "mode": "bilinear", "antialias": True, "align_corners": False}
    small_image = torch.nn.functional.interpolate(image.float(), **resize)
    small = torch.nn.functional.interpolate(logits, **resize)
    kernels = [Bilateral(weight=4, sigma_xy=33.5, sigma_rgb=3), Gaussian(weight=3, sigma=1.5)]
    support = DenseCRF(kernels=kernels, backend=backend)(small, small_image) - small
    enlarged = torch.nn.functional.interpolate(support, size=(41, 60), mode="bilinear", align_corners=False)
    torch.testing.assert_close(got, logits + enlarged, atol=1e-4, rtol=1e-4)
    full = DenseCRF(backend=backend)(logits, image)
    assert (got.argmax(1) == full.argmax(1)).float().mean() > 0.8
    prepared = DenseCRF(resolution=0.5, backend=backend)
    assert torch.equal(prepared(logits, prepared.prepare(image)), got)


def test_approximations_are_stated() -> None:
    said = DenseCRF(prune=0.01, storage="float16", resolution=0.5).description
    assert said.endswith("symmetric, labels from 0.01, float16, at 0.5 of the size")
    with pytest.raises(AtrousError, match=r"crf\.resolution=2 must be greater than 0 and at most 1"):
        DenseCRF(resolution=2)
