"""Mean-field inference against its definition in float64, and what is refused."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from atrous.crf import Bilateral, DenseCRF, Gaussian, Neighbors
from atrous.errors import AtrousError

Scene = Callable[..., tuple[Tensor, Tensor]]
NORMALIZATIONS = ("symmetric", "after", "before", "none")
KERNELS = (Bilateral(weight=4, sigma_xy=6, sigma_rgb=20), Gaussian(weight=3, sigma=2))
MATRIX = [[0.0, 1.0, 2.0, 1.0], [1.0, 0.0, 0.5, 1.0], [2.0, 0.5, 0.0, 0.2], [1.0, 1.0, 0.2, 0.0]]
LOPSIDED = [[0.5, 1.0, 2.0, 1.0], [0.2, 1.0, 0.5, 1.0], [2.0, 0.5, 0.0, 0.2], [0.3, 1.0, 0.2, 0.7]]
COMPATIBILITIES: dict[str, tuple[Any, np.ndarray]] = {
    "potts": ("potts", np.eye(4)),
    "per class": ([1.0, 0.5, 2.0, 0.0], np.diag([1.0, 0.5, 2.0, 0.0])),
    "matrix": (MATRIX, -np.array(MATRIX)),
    "lopsided": (LOPSIDED, -np.array(LOPSIDED)),
}


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("compatibility", COMPATIBILITIES)
def test_it_is_what_the_definition_says(
    scene: Scene, slow: SimpleNamespace, compatibility: str, normalization: str
) -> None:
    logits, image = scene(8, 12)
    given, support = COMPATIBILITIES[compatibility]
    matrices = [slow.normalized(slow.lattice_matrix(kernel, image), normalization) for kernel in KERNELS]
    rows = logits[0].flatten(1).t().double().numpy()
    wanted = slow.mean_field(rows, matrices, [4 * support, 3 * support], 5)
    crf = DenseCRF(kernels=KERNELS, compatibility=given, iterations=5, normalization=normalization)
    got = crf(logits.double(), image, gives="probabilities")[0].flatten(1).t()
    np.testing.assert_allclose(got, wanted, atol=2e-5)
    assert np.abs(wanted - slow.softmax(rows)).max() > 0.2  # it does something


@pytest.mark.parametrize(
    ("weight", "mixing"),
    [
        ([4.0, 1.0, 0.0, 2.0], np.diag([4.0, 1.0, 0.0, 2.0])),
        (LOPSIDED, np.array(LOPSIDED)),
    ],
    ids=["per class", "matrix"],
)
@pytest.mark.parametrize("compatibility", COMPATIBILITIES)
def test_kernels_may_count_differently_for_each_class(
    scene: Scene, slow: SimpleNamespace, weight: Any, mixing: np.ndarray, compatibility: str
) -> None:
    logits, image = scene(6, 9)
    given, support = COMPATIBILITIES[compatibility]
    kernels = (Bilateral(weight=weight, sigma_xy=6, sigma_rgb=20), KERNELS[1])
    matrices = [slow.normalized(slow.lattice_matrix(kernel, image), "after") for kernel in kernels]
    rows = logits[0].flatten(1).t().double().numpy()
    wanted = slow.mean_field(rows, matrices, [support @ mixing, 3 * support], 3)
    crf = DenseCRF(kernels=kernels, compatibility=given, iterations=3, normalization="after")
    got = crf(logits.double(), image, gives="probabilities")[0].flatten(1).t()
    np.testing.assert_allclose(got, wanted, atol=2e-5)


def test_five_classes_that_are_near_in_color_agree_with_the_exact_crf(scene: Scene, slow: SimpleNamespace) -> None:
    """The CRF of the paper's formula, N² Gaussians and all, labels almost all pixels alike."""
    logits, image = scene(24, 28, 5)
    matrices = [slow.normalized(slow.gaussian(kernel, image), "symmetric") for kernel in KERNELS]
    rows = logits[0].flatten(1).t().double().numpy()
    exact = slow.mean_field(rows, matrices, [4 * np.eye(5), 3 * np.eye(5)], 10).argmax(axis=1)
    got = DenseCRF(kernels=KERNELS)(logits, image).argmax(dim=1).flatten().numpy()
    before = rows.argmax(axis=1)
    changed = (exact != before) | (got != before)
    assert changed.mean() > 0.02
    assert (got == exact).mean() > 0.98


def test_images_of_a_batch_do_not_see_each_other(scene: Scene, default: DenseCRF) -> None:
    logits, image = scene(30, 40, 6, batch=4)
    together = default(logits, image, gives="probabilities")
    alone = torch.cat([default(logits[i, None], image[i, None], gives="probabilities") for i in range(4)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    assert (together[0] - together[1]).abs().max() > 0.1


def test_a_lattice_of_all_images_gives_what_one_for_each_gives(scene: Scene) -> None:
    """What devices other than a CPU do."""
    from atrous.crf.torch_backend import Filters, TorchBackend

    logits, image = scene(20, 30, 3, batch=3)
    crf = DenseCRF(kernels=(*KERNELS, Neighbors(weight=0.5)))
    backend = TorchBackend()
    group = [backend._filter(kernel, image, "symmetric") for kernel in crf.kernels]
    together = crf(logits, Filters((3, 20, 30), [group]))
    torch.testing.assert_close(together.softmax(1), crf(logits, image).softmax(1), atol=1e-5, rtol=0)


def test_what_is_prepared_serves_any_scores_and_weights(scene: Scene, default: DenseCRF) -> None:
    first, image = scene(20, 30)
    second, _ = scene(20, 30, seed=1)
    prepared = default.prepare(image)
    for logits in (first, second):
        assert torch.equal(default(logits, prepared), default(logits, image))
    heavier = DenseCRF(kernels=(Bilateral(weight=9), Gaussian(weight=1)))
    assert torch.equal(heavier(first, prepared), heavier(first, image))
    assert not torch.equal(heavier(first, prepared), default(first, prepared))
    with pytest.raises(AtrousError, match=r"prepared for 1 images of 20×30 pixels, but scores are 1×4×30×20"):
        default(first.transpose(2, 3), prepared)


def test_scores_may_come_and_go_in_any_form(scene: Scene, default: DenseCRF) -> None:
    logits, image = scene(16, 24)
    logits = logits.double()  # in float32 the CRF itself makes more of a rounding than the forms differ
    wanted = default(logits, image).softmax(dim=1)
    probabilities = logits.softmax(dim=1)
    assert float(probabilities.min()) > 1e-5
    for scores, takes in ((probabilities, "probabilities"), (-probabilities.log(), "energy"), (logits + 7, "logits")):
        got = default(scores, image, takes=takes, gives="probabilities")
        torch.testing.assert_close(got, wanted, atol=1e-9, rtol=0)
    torch.testing.assert_close(default.refine(probabilities, image), wanted, atol=1e-9, rtol=0)
    assert default(logits.bfloat16(), image).dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(default(logits, image), default(logits, image))


def test_probabilities_are_raised_to_a_hundred_thousandth(scene: Scene) -> None:
    """As pydensecrf's own helper does, or a class of probability 0 could never win."""
    _, image = scene(4, 5)
    sure = torch.zeros(1, 2, 4, 5)
    sure[:, 0] = 1
    logits = DenseCRF(iterations=0)(sure, image, takes="probabilities")
    torch.testing.assert_close(logits[:, 0] - logits[:, 1], torch.full((1, 4, 5), -float(np.log(1e-5))))


@pytest.mark.parametrize("size", [(1, 37), (37, 1), (1, 1), (2, 3), (7, 5)])
def test_odd_sizes_are_computed(scene: Scene, slow: SimpleNamespace, size: tuple[int, int]) -> None:
    logits, image = scene(*size, 3)
    matrices = [slow.normalized(slow.lattice_matrix(kernel, image), "symmetric") for kernel in KERNELS]
    rows = logits[0].flatten(1).t().double().numpy()
    wanted = slow.mean_field(rows, matrices, [4 * np.eye(3), 3 * np.eye(3)], 10)
    got = DenseCRF(kernels=KERNELS)(logits, image, gives="probabilities")[0].flatten(1).t()
    np.testing.assert_allclose(got, wanted, atol=1e-4)


def test_one_class_is_certain(scene: Scene, default: DenseCRF) -> None:
    _, image = scene(9, 9)
    assert torch.equal(default(torch.randn(1, 1, 9, 9), image, gives="probabilities"), torch.ones(1, 1, 9, 9))


@pytest.mark.parametrize("classes", [2, 150])
def test_few_and_many_classes(scene: Scene, slow: SimpleNamespace, classes: int) -> None:
    logits, image = scene(8, 9, classes)
    matrices = [slow.normalized(slow.lattice_matrix(kernel, image), "symmetric") for kernel in KERNELS]
    rows = logits[0].flatten(1).t().double().numpy()
    wanted = slow.mean_field(rows, matrices, [4 * np.eye(classes), 3 * np.eye(classes)], 10)
    got = DenseCRF(kernels=KERNELS)(logits, image, gives="probabilities")[0].flatten(1).t()
    np.testing.assert_allclose(got, wanted, atol=1e-4)


def test_without_kernels_or_steps_nothing_changes(scene: Scene) -> None:
    logits, image = scene(5, 6)
    torch.testing.assert_close(DenseCRF(kernels=())(logits, image), logits)
    torch.testing.assert_close(DenseCRF(iterations=0)(logits, image), logits)


def test_a_float_image_is_the_same_image(scene: Scene, default: DenseCRF) -> None:
    logits, image = scene(10, 12)
    assert torch.equal(default(logits, image.float()), default(logits, image))


def test_a_short_range_crf_does_not_get_across_an_edge() -> None:
    image = torch.zeros(1, 3, 10, 20)
    image[..., 10:] = 255
    scores = torch.zeros(1, 2, 10, 20)
    scores[:, 1, :, 5] = 5.0  # one column is sure of the second class
    flat = DenseCRF(kernels=[Neighbors(weight=2, sigma_rgb=10)], normalization="none", iterations=20)(scores, image)
    second = flat.argmax(dim=1)[0]
    assert second[:, :10].all()
    assert torch.equal(flat[0, 1, :, 10:], flat[0, 0, :, 10:])  # nothing gets across


def test_kernels_may_have_names(scene: Scene, default: DenseCRF) -> None:
    logits, image = scene(6, 7)
    named = DenseCRF(kernels={"bilateral": Bilateral(), "gaussian": Gaussian()})
    assert torch.equal(named(logits, image), default(logits, image))


def test_the_code_of_the_page_runs(scene: Scene, repository: Path) -> None:
    page = (repository / "docs" / "crf.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert blocks
    for block in blocks:
        logits, image = scene(6, 8)
        names = {"logits": logits, "image": image, "probabilities": logits.softmax(dim=1)}
        exec(block, names)
        torch.testing.assert_close(names["refined"].softmax(dim=1), DenseCRF().refine(names["probabilities"], image))


def test_it_states_its_numbers() -> None:
    assert DenseCRF().description == "CRF 4/67/3 + 3/3, 10 iterations, symmetric"
    given = DenseCRF(kernels=[Neighbors(count=4, sigma_rgb=None)], compatibility=MATRIX, normalization="none")
    assert given.description == "CRF 1/4 neighbors, compatibility given, 10 iterations, none"
    assert "given/67/3" in DenseCRF(kernels=[Bilateral(weight=[1, 2])]).description


def test_a_copy_is_the_same(scene: Scene, default: DenseCRF) -> None:
    logits, image = scene(6, 7)
    assert torch.equal(copy.deepcopy(default)(logits, image), default(logits, image))
    assert default.state_dict() == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iterations": -1}, r"crf\.iterations=-1 must be at least 0"),
        ({"normalization": "both"}, "crf.normalization=both is unknown: choose symmetric, after, before, none"),
        ({"backend": "cuda"}, "crf.backend=cuda is unknown: choose auto, torch, native, pydensecrf"),
        ({"compatibility": "pots"}, "crf.compatibility=pots is unknown"),
        ({"compatibility": [[1.0, 2.0]]}, "a square of them"),
        ({"compatibility": [[1.0, 2.0], [1.0]]}, "rows of one length"),
        ({"compatibility": [1.0, float("nan")]}, "finite number"),
        ({"kernels": [Bilateral(weight=[1, 2, 3])], "compatibility": [1.0, 2.0]}, "for 2 and for 3 classes"),
        ({"trainable": ["sigma"]}, "crf.trainable: sigma is unknown"),
    ],
)
def test_impossible_values_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(AtrousError, match=message):
        DenseCRF(**options)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Gaussian(sigma=0),
        lambda: Bilateral(sigma_xy=-1),
        lambda: Bilateral(sigma_rgb=0),
        lambda: Neighbors(sigma_rgb=0),
        lambda: Neighbors(count=6),
    ],
)
def test_impossible_kernels_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(AtrousError, match=r"must be greater than 0|4 or 8 neighbors"):
        make()


def test_wrong_input_is_one_sentence(scene: Scene, default: DenseCRF) -> None:
    logits, image = scene(6, 8)
    broken = logits.clone()
    broken[0, 1, 2, 3] = float("nan")
    endless = logits.clone()
    endless[0, 1, 2, 3] = -float("inf")
    for scores, picture, options, message in (
        (logits, image[..., :-1], {}, r"of one size, but got 1×4×6×8 and 1×3×6×7"),
        (logits, image.repeat(2, 1, 1, 1), {}, "of one size"),
        (logits[0], image, {}, "of one size"),
        (logits, image[:, :2], {}, "needs images B×3×H×W, but got 1×2×6×8"),
        (logits, image / 255, {}, r"needs colors of 0…255.*lie between 0.1\d+ and 0.7"),
        (logits, (image.float() - 128) / 60, {}, "undo a normalization"),
        (broken, image, {}, "logits that are not finite numbers"),
        (endless, image, {}, "not finite"),
        (logits, image, {"takes": "probabilities"}, "probabilities between .*: say that they are logits if"),
        (logits, image, {"takes": "scores"}, "the CRF takes no 'scores'"),
    ):
        with pytest.raises(AtrousError, match=message):
            default(scores, picture, **options)
    with pytest.raises(AtrousError, match="numbers for 3 classes, but scores have 4"):
        DenseCRF(compatibility=[1.0, 1.0, 1.0])(logits, image)
    black = torch.zeros(1, 3, 6, 8)  # of either range
    assert default(logits, black).isfinite().all()
