"""DUpsampling against an explicit loop over windows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from atrous.errors import AtrousError
from atrous.geometry import Grid
from atrous.losses import SquaredError
from atrous.models.label_code import LabelCode, fit_closed_form
from atrous.models.upsamplers.dupsampling import DUpsampling

CLASSES, WIDTH = 3, 5


def linear_code(ratio: int, grid: Grid = Grid.POINTS, hidden: int | None = None) -> LabelCode:
    generator = torch.Generator().manual_seed(1)
    length = CLASSES * ratio**2
    sizes = [(length, WIDTH)] if hidden is None else [(hidden, WIDTH), (length, hidden)]
    decoder = tuple(torch.randn(size, generator=generator) for size in sizes)
    return LabelCode(ratio, CLASSES, grid, (torch.zeros(WIDTH, length),), decoder, 0.5, "a test")


def by_hand(scores: Tensor, code: LabelCode, temperature: float, size: tuple[int, int]) -> Tensor:
    """For every feature: decode its numbers, and put the window's classes, rows and columns where they belong."""
    side = code.ratio
    start = -(side // 2) if code.grid is Grid.POINTS else 0
    logits = torch.full((len(scores), CLASSES, *size), float("nan"))
    for image in range(len(scores)):
        for i in range(scores.shape[2]):
            for j in range(scores.shape[3]):
                vector = code.decoder[0] @ scores[image, :, i, j]
                if len(code.decoder) > 1:
                    vector = code.decoder[1] @ vector.clamp(min=0)
                for label in range(CLASSES):
                    for y in range(side):
                        for x in range(side):
                            row, column = side * i + start + y, side * j + start + x
                            if 0 <= row < size[0] and 0 <= column < size[1]:
                                logits[image, label, row, column] = vector[label * side**2 + y * side + x] / temperature
    return logits


@pytest.mark.parametrize("grid", list(Grid))
@pytest.mark.parametrize("hidden", [None, 4])
@pytest.mark.parametrize("ratio", [2, 3, 4])
def test_every_pixel_comes_from_its_window(grid: Grid, hidden: int | None, ratio: int) -> None:
    """A map of 7×9 features with three classes."""
    code = linear_code(ratio, grid, hidden)
    upsampler = DUpsampling(grid=grid, num_classes=CLASSES, ratio=ratio, width=WIDTH, hidden=hidden, weights=code)
    assert upsampler.score_channels == WIDTH
    with torch.no_grad():
        upsampler.temperature.fill_(0.7)
    scores = torch.randn(2, WIDTH, 7, 9, generator=torch.Generator().manual_seed(0))
    size = (ratio * 6 + 1, ratio * 8 + 1) if grid is Grid.POINTS else (ratio * 7, ratio * 9)
    logits = upsampler(scores, size)
    assert logits.shape == (2, CLASSES, *size)
    torch.testing.assert_close(logits, by_hand(scores, code, 0.7, size), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("grid", list(Grid))
@pytest.mark.parametrize("size", [(13, 22), (16, 16), (17, 9)])
def test_it_reconstructs_what_the_code_compressed(grid: Grid, size: tuple[int, int]) -> None:
    """Sizes that the ratio divides, and sizes that it does not."""
    mask = np.random.default_rng(0).integers(0, CLASSES, (6, 6)).repeat(4, 0).repeat(4, 1)[: size[0], : size[1]]
    mask = mask.astype(np.uint8)
    code = fit_closed_form([mask], num_classes=CLASSES, ratio=4, width=9, grid=grid)
    numbers = code.compress(mask)
    extra = 1 if grid is Grid.POINTS else 0
    extended = (4 * (numbers.shape[1] - extra) + extra, 4 * (numbers.shape[2] - extra) + extra)
    upsampler = DUpsampling(grid=grid, num_classes=CLASSES, ratio=4, width=9, weights=code)
    logits = upsampler(numbers[None], extended)[0, :, : size[0], : size[1]]
    torch.testing.assert_close(logits, code.reconstruct(numbers, size), atol=1e-5, rtol=1e-4)
    assert float((logits.argmax(0).numpy() == mask).mean()) > 0.85


def test_temperature_starts_at_one_and_learns() -> None:
    upsampler = DUpsampling(grid=Grid.POINTS, num_classes=CLASSES, ratio=2, width=WIDTH, weights=linear_code(2))
    assert upsampler.temperature.item() == 1
    assert upsampler.temperature.ndim == 0
    upsampler(torch.randn(1, WIDTH, 3, 4), (5, 7)).square().sum().backward()
    assert upsampler.temperature.grad is not None
    assert upsampler.temperature.grad.item() < 0


def test_another_temperature_to_start_with() -> None:
    scores = torch.randn(1, WIDTH, 3, 4)
    options: dict[str, Any] = {"grid": Grid.POINTS, "num_classes": CLASSES, "ratio": 2, "width": WIDTH}
    warm = DUpsampling(**options, weights=linear_code(2))
    cold = DUpsampling(**options, weights=linear_code(2), temperature=0.1)
    torch.testing.assert_close(cold(scores, (5, 7)), 10 * warm(scores, (5, 7)))
    with pytest.raises(AtrousError, match=r"upsampler\.temperature=0 must be greater than 0"):
        DUpsampling(**options, weights=linear_code(2), temperature=0)


@pytest.mark.parametrize("frozen", [True, False])
def test_the_decoder_learns_unless_it_is_frozen(frozen: bool) -> None:
    upsampler = DUpsampling(
        grid=Grid.POINTS, num_classes=CLASSES, ratio=2, width=WIDTH, weights=linear_code(2), frozen=frozen
    )
    learning = [name for name, parameter in upsampler.named_parameters() if parameter.requires_grad]
    assert learning == ["temperature"] + ([] if frozen else ["decoder.0.weight"])


def test_weights_come_from_a_file_or_a_trained_network(tmp_path: Path) -> None:
    code = linear_code(4)
    code.save(tmp_path / "code.pt")
    options = {"grid": Grid.POINTS, "num_classes": CLASSES, "ratio": 4, "width": WIDTH}
    fitted = DUpsampling(**options, weights=str(tmp_path / "code.pt"))
    open_one = DUpsampling(**options, weights="fit")
    assert open_one.unfitted
    assert not fitted.unfitted
    open_one.load_state_dict(fitted.state_dict())
    torch.testing.assert_close(open_one.decoder[0].weight[..., 0, 0], code.decoder[0])
    assert not DUpsampling(**options, weights="random").unfitted


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    options = {"grid": Grid.CELLS, "num_classes": CLASSES, "ratio": 16, "width": 128}
    with pytest.raises(
        AtrousError, match=r"there is no label code .*voc\.pt; python src/prepare\.py task=dupsampling writes one"
    ):
        DUpsampling(**options, weights=tmp_path / "voc.pt")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"ratio": 8}, "ratio=4, but the network needs ratio=8"),
        ({"num_classes": 4}, "num_classes=3, but the network needs num_classes=4"),
        ({"width": 6}, "width=5, but the network needs width=6"),
        ({"grid": Grid.CELLS}, "grid=points, but the network needs grid=cells"),
        ({"hidden": 7}, "hidden=None, but the network needs hidden=7"),
    ],
)
def test_weights_of_something_else_are_refused(changed: dict[str, object], said: str) -> None:
    options = {"grid": Grid.POINTS, "num_classes": CLASSES, "ratio": 4, "width": WIDTH, **changed}
    with pytest.raises(AtrousError, match=f"the label code of a test was fitted for {said}: set upsampler.weights=fit"):
        DUpsampling(**options, weights=linear_code(4))


def test_frozen_random_weights_are_refused() -> None:
    with pytest.raises(AtrousError, match="would never learn"):
        DUpsampling(grid=Grid.POINTS, num_classes=CLASSES, ratio=4, weights="random", frozen=True)


def test_a_fixed_temperature_gets_no_gradient() -> None:
    upsampler = DUpsampling(
        grid=Grid.POINTS, num_classes=3, ratio=4, width=5, weights=linear_code(4), temperature=0.3,
        learn_temperature=False,
    )  # fmt: skip
    upsampler(torch.randn(1, 5, 2, 2), (5, 5)).sum().backward()
    assert upsampler.temperature.grad is None
    assert upsampler.decoder[0].weight.grad is not None


def test_squared_error_is_the_loss_on_compressed_labels() -> None:
    """The gradient of ‖F − P v‖² (§3.2), computed with the code itself."""
    rng = np.random.default_rng(0)
    masks = [rng.integers(0, 3, (9, 13), dtype=np.uint8) for _ in range(20)]
    code = fit_closed_form(masks, num_classes=3, ratio=4, width=6)
    upsampler = DUpsampling(grid=Grid.POINTS, num_classes=3, ratio=4, width=6, weights=code, learn_temperature=False)
    mask = np.full((9, 13), 1, dtype=np.uint8)
    mask[3:, 5:] = 2
    scores = torch.randn(1, 6, 3, 4, requires_grad=True)
    target = code.compress(mask)[None]
    (wanted,) = torch.autograd.grad((scores - target).square().sum() / mask.size, scores)
    loss = SquaredError()(upsampler(scores, (9, 13)), torch.from_numpy(mask)[None])
    (found,) = torch.autograd.grad(loss, scores)
    inside = np.s_[:, :, 1:2, 1:3]  # windows that are whole: the others count only what lies in the image
    torch.testing.assert_close(found[inside], wanted[inside], rtol=1e-4, atol=1e-6)
