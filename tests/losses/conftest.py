"""A small batch of logits and labels with ignored pixels, and every loss that is tested on it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from atrous.losses import OHEM, Combined, CrossEntropy, Dice, Focal, HardPixels, Loss, LovaszSoftmax, SquaredError

CLASSES = 4
WEIGHTS = [0.25, 1.0, 4.0, 9.0]
Example = Callable[..., tuple[Tensor, Tensor]]

LOSSES: dict[str, Callable[[], Loss]] = {
    "cross_entropy": CrossEntropy,
    "weighted": lambda: CrossEntropy(class_weights=WEIGHTS, label_smoothing=0.1),
    "focal": Focal,
    "focal_weighted": lambda: Focal(gamma=0.5, class_weights=WEIGHTS),
    "hard_pixels": HardPixels,
    "hard_pixels_weighted": lambda: HardPixels(fraction=0.4, class_weights=WEIGHTS, label_smoothing=0.1),
    "ohem": lambda: OHEM(threshold=0.5, min_kept=5),
    "ohem_weighted": lambda: OHEM(threshold=0.5, min_kept=5, class_weights=WEIGHTS, label_smoothing=0.1),
    "lovasz": LovaszSoftmax,
    "lovasz_all_per_image": lambda: LovaszSoftmax(classes="all", per_image=True),
    "squared_error": SquaredError,
    "dice": Dice,
    "dice_all": lambda: Dice(classes="all", smooth=0.0),
    "combined": lambda: Combined({"a": CrossEntropy(), "b": LovaszSoftmax(), "c": Dice()}, weights={"b": 0.5}),
}


@pytest.fixture
def example() -> Example:
    """Makes float64 logits 2×4×5×7 and uint8 labels, of which about a part is 255."""

    def make(ignored: float = 0.3) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(0)
        logits = 3 * torch.randn(2, CLASSES, 5, 7, generator=generator, dtype=torch.float64)
        target = torch.randint(0, CLASSES, (2, 5, 7), generator=generator)
        target[torch.rand(2, 5, 7, generator=generator) < ignored] = 255
        return logits.requires_grad_(), target.to(torch.uint8)

    return make


@pytest.fixture(params=sorted(LOSSES))
def loss(request: pytest.FixtureRequest) -> Loss:
    """Every loss in turn."""
    return LOSSES[request.param]()
