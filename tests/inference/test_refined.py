"""A refiner comes last, sees fused and interpolated probabilities at the image's own size, and says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import Tensor

from atrous.crf import Bilateral, DenseCRF, Gaussian, Neighbors, Refiner
from atrous.errors import AtrousError
from atrous.inference import Inference, MultiScale, Padded, Refined, SlidingWindow, Stage, Stretched, WholeImage
from atrous.metrics import Protocol
from atrous.models import Segmentor


class Watching(Refiner):
    """Keeps what it is given, and gives the classes in turned order."""

    seen: Tensor
    image: Tensor

    @property
    def description(self) -> str:
        return "turned"

    def refine(self, probabilities: Tensor, image: Tensor) -> Tensor:
        self.seen, self.image = probabilities, image
        return probabilities.flip(1)


@torch.no_grad()
def test_it_gives_what_the_crf_gives(network: Segmentor, pictures: Callable[..., Tensor]) -> None:
    image = pictures(41, 57)
    crf = DenseCRF(kernels=[Bilateral(weight=5, sigma_xy=20, sigma_rgb=10)])
    plain = WholeImage()(network, image)
    refined = Refined(refiner=crf)(network, image)
    assert torch.equal(refined, crf.refine(plain, image))
    assert (refined - plain).abs().max() > 0.01


@torch.no_grad()
def test_bands_are_parts_of_the_whole(
    network: Segmentor, pictures: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = pictures(41, 57)
    wanted = Refined(refiner=DenseCRF())(network, image)
    monkeypatch.setattr("atrous.inference.bands._PART", {"cpu": 1})
    bands = list(Refined(refiner=DenseCRF()).bands(network, image))
    assert len(bands) == 6
    assert torch.equal(torch.cat([band for _, band in bands], dim=2), wanted)


STAGES = {
    "scales": lambda: MultiScale(scales=[0.5, 1.0], flip=True),
    "windows": lambda: SlidingWindow(size=33),
}


@torch.no_grad()
@pytest.mark.parametrize(
    "order", [("crf", "scales", "windows"), ("windows", "crf", "scales"), ("scales", "windows", "crf")]
)
@pytest.mark.parametrize("base", [WholeImage, lambda: Padded(size=65), lambda: Stretched(size=49)])
def test_it_comes_last_in_any_order(
    network: Segmentor, pictures: Callable[..., Tensor], order: tuple[str, ...], base: Callable[[], Inference]
) -> None:
    image, watching = pictures(50, 61), Watching()
    inference, without = base(), base().smooth()
    for name in order:
        stage: Stage = Refined(refiner=watching) if name == "crf" else STAGES[name]()
        inference = stage.wrap(inference)
        without = without if name == "crf" else stage.wrap(without)
    assert isinstance(inference, Refined)
    assert inference.protocol == {**without.protocol, "crf": "turned"}
    found = inference(network, image)
    wanted = without(network, image)
    assert watching.seen.shape == (2, 4, 50, 61)
    assert torch.equal(watching.image, image)
    torch.testing.assert_close(watching.seen, wanted)
    assert torch.equal(found, watching.seen.flip(1))


@torch.no_grad()
def test_behind_stretched_images_probabilities_are_interpolated(
    network: Segmentor, pictures: Callable[..., Tensor], oracle: Any
) -> None:
    """Between the centers of the small map's pixels, as Pillow's bilinear resizing does."""
    image, watching = pictures(50, 61, batch=1), Watching()
    stretched = Stretched(size=33)
    nearest = stretched(network, image)
    Refined(refiner=watching, inner=stretched)(network, image)
    rows = [np.unique(nearest[0, 0, :, i].numpy()).size for i in (0, 30)]
    assert max(rows) <= 33
    seen: list[Tensor] = []

    class Small(WholeImage):
        def __call__(self, segmentor: Any, image: Tensor) -> Tensor:
            seen.append(super().__call__(segmentor, image))
            return seen[-1]

    Stretched(size=33, inner=Small())(network, image)
    places = [((np.arange(side) + 0.5) * 33 / side - 0.5).clip(0, 32) for side in (50, 61)]
    wanted = oracle.sampled(seen[0][0].double().numpy(), *places)
    np.testing.assert_allclose(watching.seen[0].numpy(), wanted, atol=1e-6)
    torch.testing.assert_close(stretched(network, image), nearest)  # without a refiner it is what it was


def test_it_is_refused_twice() -> None:
    once = Refined(refiner=DenseCRF())
    with pytest.raises(AtrousError, match="refined twice"):
        Refined(refiner=DenseCRF()).wrap(once)
    with pytest.raises(AtrousError, match="refined twice"):
        Refined(refiner=DenseCRF(), inner=Padded(size=9, inner=Refined(refiner=DenseCRF())))


def test_a_score_says_so() -> None:
    protocol = Protocol("voc", "val", 8, **Refined(refiner=DenseCRF()).protocol)
    assert str(protocol).endswith("whole image · CRF 4/67/3 + 3/3, 10 iterations, symmetric")
    assert Protocol.from_dict(protocol.to_dict()) == protocol


@pytest.fixture
def presets(repository: Path) -> Iterator[Callable[[str], DenseCRF]]:
    with initialize_config_dir(str(repository / "conf"), version_base="1.3"):
        yield lambda name: instantiate(compose(overrides=[f"+crf={name}"]).crf, _convert_="all")


# w, σ_α, σ_β; w₂ = 3, σ_γ: DeepLabv1 and v2 as released
RELEASED = {
    "deeplabv1": (5, 50, 10, 3),
    "deeplabv1_msc": (3, 95, 3, 3),
    "deeplabv1_largefov": (4, 121, 5, 3),
    "deeplabv1_msc_largefov": (4, 83, 5, 3),
    "deeplabv1_coco": (5, 67, 3, 3),
    "deeplabv1_coco_largefov": (5, 69, 5, 3),
    "deeplabv1_msc_coco_largefov": (4, 59, 5, 3),
    "deeplabv2_vgg16": (4, 49, 5, 3),
    "deeplabv2_resnet101": (4, 67, 3, 1),
    "dense_crf": (4, 67, 3, 3),
    "crf_as_rnn": (5, 160, 3, 3),
}
BY_PYDENSECRF = {"dense_crf", "deeplabv2_resnet101"}


@pytest.mark.parametrize("name", RELEASED)
def test_presets_have_the_published_numbers(presets: Callable[[str], DenseCRF], name: str) -> None:
    crf = presets(name)
    w, alpha, beta, gamma = RELEASED[name]
    assert crf.kernels == (Bilateral(weight=w, sigma_xy=alpha, sigma_rgb=beta), Gaussian(weight=3, sigma=gamma))
    assert crf.normalization == ("symmetric" if name in BY_PYDENSECRF else "after")
    assert (crf.iterations, crf.backend, crf.compatibility) == (10, "auto", None)


def test_every_preset_is_known(repository: Path, presets: Callable[[str], DenseCRF]) -> None:
    names = {path.stem for path in (repository / "conf" / "crf").glob("*.yaml")}
    assert names == {*RELEASED, "short_range"}
    assert presets("short_range").kernels == (Neighbors(count=8, sigma_rgb=10, weight=1),)
    assert presets("dense_crf").description == DenseCRF().description
