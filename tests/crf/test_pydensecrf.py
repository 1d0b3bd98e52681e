"""Parity with pydensecrf, which everybody uses and whose numbers are in the papers' reproductions."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from atrous.crf import Bilateral, DenseCRF, Gaussian, Neighbors, pydensecrf_backend
from atrous.errors import AtrousError

Scene = Callable[..., tuple[Tensor, Tensor]]
Original = Callable[..., Tensor]
NORMALIZATIONS = {
    "symmetric": "NORMALIZE_SYMMETRIC",
    "after": "NORMALIZE_AFTER",
    "before": "NORMALIZE_BEFORE",
    "none": "NO_NORMALIZATION",
}


@pytest.fixture(scope="module", autouse=True)
def pool() -> Iterator[None]:
    """Processes that live as long as the program would keep other tests from counting theirs."""
    yield
    pydensecrf_backend._pool(os.cpu_count()).shutdown()
    pydensecrf_backend._pool.cache_clear()


def penalties(classes: int) -> np.ndarray:
    drawn = np.random.default_rng(0).uniform(0, 2, (classes, classes)).astype(np.float32)
    return (drawn + drawn.T) / 2


def forms(classes: int) -> dict[str, tuple[dict[str, Any], Any]]:
    """Compatibility here, and theirs for a weight of 4: a reward, a diagonal of penalties, or a matrix of them."""
    gains = np.linspace(0.2, 1.8, classes).astype(np.float32)
    return {
        "potts": ({}, lambda weight: float(weight)),
        "per class": ({"compatibility": gains.tolist()}, lambda weight: -weight * gains),
        "matrix": ({"compatibility": penalties(classes).tolist()}, lambda weight: weight * penalties(classes)),
    }


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("form", ["potts", "per class", "matrix"])
def test_every_compatibility_and_normalization(scene: Scene, original: Original, form: str, normalization: str) -> None:
    logits, image = scene(100, 120, 21, seed=2)
    given, theirs = forms(21)[form]
    weights = (0.2, 0.1) if normalization == "none" else (4.0, 3.0)  # sums of hundreds of pixels
    kernels = [{"sxy": 67, "srgb": 3, "compat": theirs(weights[0])}, {"sxy": 3, "compat": theirs(weights[1])}]
    wanted = original(logits[0], image[0], kernels, normalization=NORMALIZATIONS[normalization], iterations=5)
    crf = DenseCRF(
        kernels=[Bilateral(weight=weights[0]), Gaussian(weight=weights[1])],
        iterations=5,
        normalization=normalization,
        **given,
    )
    got = crf(logits.double(), image, gives="probabilities")[0]  # so that only their roundings count
    assert (got - wanted).abs().max() <= 5e-6
    assert (got - logits[0].softmax(dim=0)).abs().max() > 0.1


DEFAULT = [{"sxy": 67, "srgb": 3, "compat": 4}, {"sxy": 3, "compat": 3}]


def check(got: Tensor, wanted: Tensor) -> None:
    """The tolerances of the whole family: mean field makes more of a rounding near a tie."""
    difference = (got - wanted).abs()
    assert difference.max() <= 1e-4
    assert difference.mean() <= 1e-7
    assert (got.argmax(dim=0) != wanted.argmax(dim=0)).float().mean() <= 1e-5


def blobs(image: Tensor, classes: int) -> Tensor:
    """Logits as of a network of stride 8, on an image 1×3×H×W."""
    height, width = image.shape[2:]
    coarse = torch.randn(1, classes, height // 8 + 1, width // 8 + 1, generator=torch.Generator().manual_seed(0))
    return 2 * torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.parametrize("number", range(7))
def test_photographs_at_full_size(photographs: list[Tensor], original: Original, number: int) -> None:
    image = photographs[number]
    logits = blobs(image, 21)
    check(DenseCRF()(logits, image, gives="probabilities")[0], original(logits[0], image[0], DEFAULT))


@pytest.mark.long
def test_a_street_scene_at_full_size(scene: Scene, original: Original) -> None:
    logits, image = scene(1024, 2048, 19, noise=1)
    check(DenseCRF()(logits, image, gives="probabilities")[0], original(logits[0], image[0], DEFAULT))


def pictures() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    noise = torch.randint(0, 256, (1, 3, 45, 61), generator=generator, dtype=torch.uint8)
    corner = noise.clone()
    corner[..., :20, :30] = 0
    return {
        "odd": noise,
        "row": noise[..., :1, :],
        "column": noise[..., :, :1],
        "black corner": corner,
        "constant": torch.full_like(noise, 77),
        "white": torch.full_like(noise, 255),
    }


@pytest.mark.parametrize("name", ["odd", "row", "column", "black corner", "constant", "white"])
@pytest.mark.parametrize("classes", [2, 21, 150])
def test_pictures_that_are_unlike_photographs(original: Original, name: str, classes: int) -> None:
    image = pictures()[name]
    logits = blobs(image, classes)
    got = DenseCRF()(logits, image, gives="probabilities")[0]
    wanted = original(logits[0], image[0], DEFAULT)
    assert (got - wanted).abs().max() <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"normalization": "after", "iterations": 3},
        {"compatibility": forms(3)["per class"][0]["compatibility"]},
        {"compatibility": forms(3)["matrix"][0]["compatibility"]},
        {"kernels": [Bilateral(weight=[1.0, 2.0, 3.0]), Gaussian(sigma=1, weight=2)]},
        {"kernels": [Gaussian(weight=(-penalties(3)).tolist())]},
        {"kernels": [Bilateral(weight=2)], "compatibility": [1.0, 0.0, 2.0]},
    ],
    ids=["default", "after", "per class", "matrix", "weights per class", "weights per pair", "both"],
)
def test_the_backend_is_equal_in_meaning(original: Original, scene: Scene, options: dict[str, Any]) -> None:
    logits, image = scene(40, 50, 3, batch=3)
    ours = DenseCRF(**options)(logits, image, gives="probabilities")
    theirs = DenseCRF(**options, backend="pydensecrf")
    torch.testing.assert_close(theirs(logits, image, gives="probabilities"), ours, atol=1e-4, rtol=0)
    torch.testing.assert_close(theirs(logits, theirs.prepare(image)).softmax(dim=1), ours, atol=1e-4, rtol=0)


def test_the_backend_refuses_what_it_cannot_do(original: Original, scene: Scene) -> None:
    logits, image = scene(6, 8, 2)
    with pytest.raises(AtrousError, match="pydensecrf takes symmetric matrices only"):
        DenseCRF(compatibility=[[0.0, 1.0], [2.0, 0.0]], backend="pydensecrf")(logits, image)
    with pytest.raises(AtrousError, match="pydensecrf has no kernel Neighbors"):
        DenseCRF(kernels=[Neighbors()], backend="pydensecrf")(logits, image)
    with pytest.raises(AtrousError, match="pydensecrf gives no gradients"):
        DenseCRF(backend="pydensecrf")(logits.requires_grad_(), image)


def test_a_missing_package_is_one_sentence(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    logits, image = scene(6, 8, 2)
    missing = SimpleNamespace(util=SimpleNamespace(find_spec=lambda name: None))
    monkeypatch.setattr("atrous.crf.pydensecrf_backend.importlib", missing)
    with pytest.raises(AtrousError, match=r"needs pydensecrf2, which is not installed: pip install pydensecrf2"):
        DenseCRF(backend="pydensecrf")(logits, image)
