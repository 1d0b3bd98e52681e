"""Scenes to refine, and what the definitions say about them, computed slowly."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from atrous.crf import DenseCRF
from atrous.crf.kernels import FeatureKernel

Floats = NDArray[np.float64]
Key = tuple[int, ...]


@pytest.fixture(scope="session")
def scene() -> Callable[..., tuple[Tensor, Tensor]]:
    """Logits B×C×H×W and pictures B×3×H×W with edges, noise, and blobs of classes that hardly follow them."""

    def draw(
        height: int, width: int, classes: int = 4, *, batch: int = 1, seed: int = 0, noise: float = 6
    ) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)

        def blobs(channels: int, step: int, mode: str) -> Tensor:
            coarse = torch.randn(batch, channels, height // step + 2, width // step + 2, generator=generator)
            options = {} if mode == "nearest" else {"align_corners": False}
            return torch.nn.functional.interpolate(coarse, size=(height, width), mode=mode, **options)

        grain = noise * torch.randn(batch, 3, height, width, generator=generator)
        colors = 128 + 60 * blobs(3, 9, "nearest") + grain
        return 2 * blobs(classes, 8, "bilinear"), colors.clamp(0, 255).to(torch.uint8)

    return draw


@pytest.fixture(scope="session")
def photographs(shared: Path) -> list[Tensor]:
    """Seven of VOC's images, 1×3×H×W."""
    folder = shared / "data" / "VOCdevkit" / "VOC2012" / "JPEGImages"
    names = ("2007_000042", "2007_000063", "2007_000129", "2007_000363", "2007_000392", "2007_000452", "2007_000491")
    pictures = [np.asarray(Image.open(folder / f"{name}.jpg").convert("RGB")) for name in names]
    return [torch.from_numpy(picture.copy()).permute(2, 0, 1)[None] for picture in pictures]


def simplex(feature: NDArray[np.float32]) -> tuple[list[Key], list[float]]:
    """The vertices around one point and its barycentric weights, one step after the other in float32."""
    one = np.float32
    d = len(feature)
    factor = one(math.sqrt(2 / 3) * (d + 1))
    scale = [one(1 / math.sqrt((i + 1) * (i + 2)) * float(factor)) for i in range(d)]
    elevated, total = [one(0)] * (d + 1), one(0)
    for i in range(d, 0, -1):
        scaled = one(feature[i - 1] * scale[i - 1])
        elevated[i] = one(total - one(one(i) * scaled))
        total = one(total + scaled)
    elevated[0] = total
    rounded = [int(np.rint(one(value * one(1 / one(d + 1))))) for value in elevated]
    nearest = [one(number * (d + 1)) for number in rounded]
    rank = [0] * (d + 1)
    for i, j in itertools.combinations(range(d + 1), 2):
        if one(elevated[i] - nearest[i]) < one(elevated[j] - nearest[j]):
            rank[i] += 1
        else:
            rank[j] += 1
    for i in range(d + 1):
        rank[i] += sum(rounded)
        turn = (d + 1) * ((rank[i] < 0) - (rank[i] > d))
        rank[i] += turn
        nearest[i] = one(nearest[i] + turn)
    share = [0.0] * (d + 2)
    for i in range(d + 1):
        gap = float(one(elevated[i] - nearest[i])) / (d + 1)
        share[d - rank[i]] += gap
        share[d - rank[i] + 1] -= gap
    share[0] += 1 + share[d + 1]
    keys = [
        tuple(int(nearest[i]) + (r if rank[i] <= d - r else r - (d + 1)) for i in range(d + 1)) for r in range(d + 1)
    ]
    return keys, share[: d + 1]


def slow_filter(features: NDArray[np.float32], values: Floats, *, reverse: bool = False) -> Floats:
    """Splat, blur and slice with a dictionary of vertices."""
    d = features.shape[1]
    simplices = [simplex(feature) for feature in features]
    grid: dict[Key, Floats] = {}
    for (keys, shares), value in zip(simplices, values, strict=True):
        for key, share in zip(keys, shares, strict=True):
            grid[key] = grid.get(key, np.zeros_like(value)) + share * value
    zero = np.zeros_like(values[0])
    for axis in reversed(range(d + 1)) if reverse else range(d + 1):
        step = [1] * (d + 1)
        step[axis] = -d
        grid = {
            key: value
            + sum(grid.get(tuple(np.add(key, np.multiply(sign, step)).tolist()), zero) for sign in (1, -1)) / 2
            for key, value in grid.items()
        }
    result = [sum(share * grid[key] for key, share in zip(*each, strict=True)) for each in simplices]
    return np.stack(result) / (1 + 2.0**-d)


def softmax(scores: Floats) -> Floats:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def normalized(kernel: Floats, normalization: str) -> Floats:
    """A matrix over pixels, whose rows sum up what each of them gets."""
    sums = kernel.sum(axis=1)
    return {
        "none": kernel,
        "before": kernel / sums,
        "after": kernel / sums[:, None],
        "symmetric": kernel / np.sqrt(np.outer(sums, sums)),
    }[normalization]


def slow_mean_field(scores: Floats, kernels: list[Floats], mixings: list[Floats], iterations: int) -> Floats:
    """Probabilities N×C; a mixing C×C is what a probability of class j (column) adds to the score of class i (row)."""
    probabilities = softmax(scores)
    for _ in range(iterations):
        total = scores.copy()
        for kernel, mixing in zip(kernels, mixings, strict=True):
            total += kernel @ probabilities @ mixing.T
        probabilities = softmax(total)
    return probabilities


def gaussian(kernel: FeatureKernel, image: Tensor) -> Floats:
    """The kernel itself, between any two of N pixels: N×N."""
    features = kernel.features(image)[0].double().numpy()
    return np.exp(-0.5 * np.square(features[:, None] - features[None]).sum(axis=2))


def lattice_matrix(kernel: FeatureKernel, image: Tensor) -> Floats:
    """What the lattice makes of the kernel: N×N."""
    features = kernel.features(image)[0].numpy()
    return slow_filter(features, np.eye(len(features)))


@pytest.fixture(scope="session")
def slow() -> SimpleNamespace:
    """The functions of this file."""
    return SimpleNamespace(
        simplex=simplex,
        filter=slow_filter,
        softmax=softmax,
        normalized=normalized,
        mean_field=slow_mean_field,
        gaussian=gaussian,
        lattice_matrix=lattice_matrix,
    )


@pytest.fixture(scope="session")
def original() -> Callable[..., Tensor]:
    """Probabilities C×H×W of one image by pydensecrf, called as its users do."""
    densecrf = pytest.importorskip("pydensecrf.densecrf", reason="pydensecrf is not installed")

    def infer(
        logits: Tensor,
        image: Tensor,
        kernels: list[dict[str, Any]],
        *,
        normalization: str = "NORMALIZE_SYMMETRIC",
        iterations: int = 10,
    ) -> Tensor:
        classes, height, width = logits.shape
        crf = densecrf.DenseCRF2D(width, height, classes)
        crf.setUnaryEnergy(np.ascontiguousarray(-logits.log_softmax(dim=0).flatten(1).numpy()))
        picture = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
        for kernel in kernels:
            about = {**kernel, "normalization": getattr(densecrf, normalization)}
            if "srgb" in kernel:
                crf.addPairwiseBilateral(rgbim=picture, **about)
            else:
                crf.addPairwiseGaussian(**about)
        return torch.from_numpy(np.array(crf.inference(iterations))).view_as(logits)

    return infer


@pytest.fixture
def default() -> DenseCRF:
    return DenseCRF()
