"""Codes of label windows against the explicit matrix of all windows and its eigenvectors."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from atrous.errors import AtrousError
from atrous.geometry import Grid
from atrous.models.label_code import (
    LabelCode,
    Mask,
    cut_windows,
    explained_energy,
    fit_by_gradient,
    fit_closed_form,
)

CLASSES = 3


def blobs(height: int, width: int, seed: int) -> Mask:
    """A mask of rectangles of classes on class 0, with a strip of void."""
    random = np.random.default_rng(seed)
    mask = np.zeros((height, width), dtype=np.uint8)
    for label in (1, 2, 1, 2, 255):
        top, left = random.integers(0, height), random.integers(0, width)
        tall, wide = random.integers(1, 7, size=2)
        mask[top : top + tall, left : left + wide] = label
    return mask


def masks(count: int = 6) -> list[Mask]:
    return [blobs(9 + 2 * seed, 17 - seed, seed) for seed in range(count)]


def windows_by_hand(mask: Mask, ratio: int, grid: Grid) -> NDArray[np.float64]:
    """All windows as rows of N = C·r² numbers, by a loop over windows, classes and pixels."""
    rows = []
    extra, start = (1, -(ratio // 2)) if grid is Grid.POINTS else (0, 0)
    counts = [int(np.ceil((extent - extra) / ratio)) + extra for extent in mask.shape]
    for i in range(counts[0]):
        for j in range(counts[1]):
            vector = np.zeros((CLASSES, ratio, ratio))
            for y in range(ratio):
                for x in range(ratio):
                    row, column = ratio * i + start + y, ratio * j + start + x
                    if 0 <= row < mask.shape[0] and 0 <= column < mask.shape[1] and mask[row, column] != 255:
                        vector[mask[row, column], y, x] = 1
            rows.append(vector.ravel())
    return np.array(rows)


def all_windows(ratio: int, grid: Grid) -> NDArray[np.float64]:
    return np.concatenate([windows_by_hand(mask, ratio, grid) for mask in masks()])


def squared_error(code: LabelCode, windows: NDArray[np.float64]) -> float:
    vectors = torch.from_numpy(windows).float()
    hidden = vectors
    for number, matrix in enumerate(code.encoder):
        hidden = (hidden.relu() if number else hidden) @ matrix.T
    for number, matrix in enumerate(code.decoder):
        hidden = (hidden.relu() if number else hidden) @ matrix.T
    return float((vectors - hidden).square().sum())


@pytest.mark.parametrize("grid", list(Grid))
@pytest.mark.parametrize(("ratio", "size"), [(4, (7, 9)), (2, (5, 8)), (3, (7, 10)), (8, (1, 3))])
def test_windows_are_cut_where_features_lie(grid: Grid, ratio: int, size: tuple[int, int]) -> None:
    mask = blobs(*size, seed=3)
    cut = cut_windows(mask, ratio=ratio, num_classes=CLASSES, grid=grid)
    one_hot = (cut[:, :, None] == np.arange(CLASSES)[:, None]).reshape(-1, CLASSES * ratio**2)
    np.testing.assert_array_equal(one_hot.astype(float), windows_by_hand(mask, ratio, grid))


@pytest.mark.parametrize("grid", list(Grid))
@pytest.mark.parametrize(("ratio", "width"), [(2, 3), (4, 8), (4, 5)])
def test_closed_form_is_the_eigenvectors_of_all_windows(grid: Grid, ratio: int, width: int) -> None:
    windows = all_windows(ratio, grid)
    values, vectors = np.linalg.eigh(windows.T @ windows)
    wanted = vectors[:, ::-1][:, :width]
    code = fit_closed_form(
        masks(), num_classes=CLASSES, ratio=ratio, width=width, grid=grid, passes=200, tolerance=0.0, oversampling=8
    )
    assert code.explained == pytest.approx(values[::-1][:width].sum() / values.sum(), rel=1e-6)
    (decoder,) = code.decoder
    cosines = np.linalg.svd(wanted.T @ decoder.double().numpy(), compute_uv=False)
    assert cosines.min() > 1 - 1e-4
    torch.testing.assert_close(code.encoder[0], decoder.T)
    torch.testing.assert_close(decoder.T @ decoder, torch.eye(width), atol=1e-5, rtol=0)
    best = np.square(windows - windows @ wanted @ wanted.T).sum()
    assert squared_error(code, windows) == pytest.approx(best, rel=1e-3)


def test_few_passes_are_nearly_as_good_and_repeat() -> None:
    options = {"num_classes": CLASSES, "ratio": 4, "width": 6}
    quick = fit_closed_form(masks(), **options)
    exact = fit_closed_form(masks(), **options, passes=300, tolerance=0.0)
    assert exact.explained - 1e-3 < quick.explained <= exact.explained + 1e-9
    assert torch.equal(quick.decoder[0], fit_closed_form(masks(), **options).decoder[0])


@pytest.mark.parametrize("grid", list(Grid))
def test_as_many_numbers_as_pixels_lose_nothing(grid: Grid) -> None:
    code = fit_closed_form(masks(), num_classes=CLASSES, ratio=2, width=CLASSES * 4, grid=grid)
    for mask in masks():
        found = code.reconstruct(code.compress(mask), (mask.shape[0], mask.shape[1]))
        known = mask != 255
        np.testing.assert_array_equal(found.argmax(dim=0).numpy()[known], mask[known])
        assert float(found[:, ~known].abs().max()) < 1e-4  # void is nothing in every class


def test_void_takes_no_part() -> None:
    """Void beside a class changes no direction; a mask that is all void changes nothing."""
    blank = np.full((9, 9), 255, dtype=np.uint8)
    options = {"num_classes": CLASSES, "ratio": 4, "width": 6}
    code = fit_closed_form(masks(), **options)
    again = fit_closed_form([blank, *masks(), blank], **options)
    torch.testing.assert_close(again.decoder[0], code.decoder[0], atol=1e-5, rtol=0)
    assert again.explained == pytest.approx(code.explained)
    with pytest.raises(AtrousError, match="no pixel of the masks has a label"):
        fit_closed_form([blank], **options)


@pytest.mark.parametrize("hidden", [None, 16])
def test_measured_energy_is_that_of_the_definition(hidden: int | None) -> None:
    windows = all_windows(4, Grid.POINTS)
    start = fit_closed_form(masks(), num_classes=CLASSES, ratio=4, width=5)
    assert explained_energy(start, masks()) == pytest.approx(start.explained, abs=1e-5)
    code = fit_by_gradient(
        masks(), num_classes=CLASSES, ratio=4, width=5, hidden=hidden, epochs=2, start=start, learning_rate=1e-3
    )
    assert code.explained == pytest.approx(1 - squared_error(code, windows) / np.square(windows).sum(), abs=1e-5)


def test_gradient_descent_reaches_the_closed_form() -> None:
    options = {"num_classes": CLASSES, "ratio": 4, "width": 6}
    best = fit_closed_form(masks(), **options, passes=300, tolerance=0.0)
    trained = fit_by_gradient(masks(), **options, epochs=500, batch_size=64, learning_rate=3e-2)
    lost, least = 1 - trained.explained, 1 - best.explained
    assert least * (1 - 1e-4) <= lost < 1.01 * least


def test_a_hidden_layer_starts_as_the_closed_form_and_improves_on_it() -> None:
    options = {"num_classes": CLASSES, "ratio": 4, "width": 4}
    linear = fit_closed_form(masks(), **options, passes=300, tolerance=0.0)
    start = fit_by_gradient(masks(), **options, hidden=12, epochs=0, start=linear)
    assert start.explained == pytest.approx(linear.explained, abs=1e-5)
    trained = fit_by_gradient(masks(), **options, hidden=12, epochs=300, batch_size=64, start=linear)
    assert trained.explained > linear.explained + 0.01
    assert trained.hidden == 12
    assert trained.width == 4


@pytest.mark.parametrize("hidden", [None, 12])
def test_files_come_back(hidden: int | None, tmp_path: Path) -> None:
    start = fit_closed_form(masks(), num_classes=CLASSES, ratio=4, width=5, origin="six masks")
    code = fit_by_gradient(masks(), num_classes=CLASSES, ratio=4, width=5, hidden=hidden, epochs=1, start=start)
    code.save(tmp_path / "deep" / "code.pt")
    loaded = LabelCode.load(tmp_path / "deep" / "code.pt")
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["code.pt"]
    assert (loaded.ratio, loaded.num_classes, loaded.grid) == (4, CLASSES, "points")
    assert loaded.explained == code.explained
    for ours, theirs in zip(loaded.encoder + loaded.decoder, code.encoder + code.decoder, strict=True):
        assert torch.equal(ours, theirs)


def test_two_writers_leave_one_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second begins and ends when the first one has written, but not renamed yet."""
    code = fit_closed_form(masks(), num_classes=CLASSES, ratio=4, width=5)
    save = torch.save

    def interrupted(plain: object, file: object) -> None:
        save(plain, file)
        monkeypatch.setattr(torch, "save", save)
        code.save(tmp_path / "code.pt")

    monkeypatch.setattr(torch, "save", interrupted)
    code.save(tmp_path / "code.pt")
    assert torch.equal(LabelCode.load(tmp_path / "code.pt").decoder[0], code.decoder[0])
    assert [path.name for path in tmp_path.iterdir()] == ["code.pt"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = fit_closed_form(masks(), num_classes=CLASSES, ratio=4, width=5)
    code.save(tmp_path / "code.pt")

    def full(plain: object, file: IO[bytes]) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        code.save(tmp_path / "code.pt")
    LabelCode.load(tmp_path / "code.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["code.pt"]


def test_mistakes_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(AtrousError, match="there is no label code"):
        LabelCode.load(tmp_path / "none.pt")
    torch.save({"state_dict": {}}, tmp_path / "other.pt")
    with pytest.raises(AtrousError, match="is not a label code"):
        LabelCode.load(tmp_path / "other.pt")
    (tmp_path / "broken.pt").write_bytes(b"PK broken")
    with pytest.raises(AtrousError, match="cannot be read as a label code"):
        LabelCode.load(tmp_path / "broken.pt")
    with pytest.raises(AtrousError, match=r"code of width 13 is impossible .* choose 1 to 12"):
        fit_closed_form(masks(), num_classes=CLASSES, ratio=2, width=13)
    with pytest.raises(AtrousError, match="holds the id 2, but there are 2 classes"):
        fit_closed_form(masks(), num_classes=2, ratio=2, width=3)
    with pytest.raises(AtrousError, match="no window of the masks has two classes"):
        fit_by_gradient([np.zeros((8, 8), np.uint8)], num_classes=2, ratio=2, width=3, grid=Grid.CELLS)


def test_every_pass_reports_every_mask() -> None:
    said: list[str] = []
    fit_closed_form(masks(4), num_classes=CLASSES, ratio=4, width=3, passes=2, tolerance=0.0, progress=said.append)
    assert said == ["pass 1"] * 4 + ["pass 2"] * 4
