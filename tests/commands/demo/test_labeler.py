"""Photographs as visitors send them: what they get, in every way that they can ask for it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import atrous
from atrous.commands.demo.labeler import Choices, Labeler, Smoothing
from atrous.crf import Bilateral, DenseCRF, Gaussian
from atrous.errors import AtrousError
from atrous.inference import Inference, MultiScale, Refined, WholeImage
from atrous.models import Segmentor

CPU = torch.device("cpu")


CRF = DenseCRF(kernels={"both": Bilateral(sigma_xy=20, sigma_rgb=30, weight=5), "near": Gaussian(sigma=2)})


def colors() -> np.ndarray:
    """Squares of 8 pixels, each with a little noise: 48×64×3."""
    random = np.random.default_rng(0)
    squares = random.integers(20, 230, (6, 8, 3)).repeat(8, axis=0).repeat(8, axis=1)
    return (squares + random.integers(-15, 15, squares.shape)).astype(np.uint8)


@pytest.fixture(scope="module")
def network() -> Segmentor:
    torch.manual_seed(0)
    overrides = ["backbone.name=test_resnet", "model.head.aspp_channels=16", "model.head.decoder_channels=16"]
    network = atrous.create("deeplabv3plus", "timm", num_classes=4, overrides=overrides).eval()
    with torch.no_grad():
        weight, bias = (network.get_parameter(f"head.classifier.{name}") for name in ("weight", "bias"))
        weight.normal_()
        weight -= weight.mean(dim=1, keepdim=True)
        scores = network(torch.from_numpy(colors()).permute(2, 0, 1)[None], outputs="map")
        bias -= scores.mean(dim=(0, 2, 3))  # so that every class wins somewhere
        for parameter in (weight, bias):
            parameter /= (scores - scores.mean(dim=(2, 3), keepdim=True)).std()
    return network


@pytest.fixture
def labeler(network: Segmentor) -> Labeler:
    network.set_output_stride(16)
    return Labeler(network, device=CPU, mixed=False, longest_side=96, megapixels=0.1)


@pytest.fixture
def photograph() -> np.ndarray:
    return colors()


def probabilities(network: Segmentor, photograph: np.ndarray, inference: Inference) -> torch.Tensor:
    with torch.inference_mode():
        return inference(network, torch.from_numpy(photograph).permute(2, 0, 1)[None])[0]


@pytest.mark.parametrize(
    ("choices", "inference"),
    [
        (Choices(), WholeImage()),
        (Choices(scales=(0.5, 1.0), flip=True), MultiScale(scales=(0.5, 1.0), flip=True)),
        (Choices(flip=True), MultiScale(flip=True)),
        (Choices(smoothing=Smoothing(sigma_xy=20, sigma_rgb=30, weight=5, sigma=2)), Refined(refiner=CRF)),
    ],
)
def test_labels_and_confidence_are_those_of_inference(
    labeler: Labeler, network: Segmentor, photograph: np.ndarray, choices: Choices, inference: Inference
) -> None:
    labeled = labeler(photograph, choices)
    wanted = probabilities(network, photograph, inference).max(dim=0)
    assert len(np.unique(labeled.labels)) > 1
    np.testing.assert_array_equal(labeled.labels, wanted.indices)
    assert np.abs(labeled.confidence - 100 * wanted.values.numpy()).max() <= 0.51
    np.testing.assert_array_equal(labeled.photograph, photograph)


def test_each_choice_changes_something(labeler: Labeler, photograph: np.ndarray) -> None:
    choices = [
        Choices(output_stride=16),
        Choices(output_stride=8),
        Choices(scales=(0.5,)),
        Choices(flip=True),
        Choices(smoothing=Smoothing()),
        Choices(smoothing=Smoothing(sigma_xy=5)),
        Choices(smoothing=Smoothing(sigma_rgb=60)),
        Choices(smoothing=Smoothing(weight=20)),
        Choices(smoothing=Smoothing(sigma=20)),
    ]
    found = [labeler(photograph, each).confidence.tobytes() for each in choices]
    assert len(set(found)) == len(choices)
    assert labeler(photograph, choices[0]).confidence.tobytes() == found[0]


def test_visitors_at_once_do_not_change_each_others_stride(labeler: Labeler, photograph: np.ndarray) -> None:
    choices = [Choices(output_stride=stride) for stride in (8, 16, 32)]
    wanted = [labeler(photograph, each).confidence.tobytes() for each in choices]
    with ThreadPoolExecutor(6) as visitors:
        found = list(visitors.map(lambda number: labeler(photograph, choices[number % 3]), range(60)))
    assert [each.confidence.tobytes() for each in found] == 20 * wanted


def test_long_photographs_are_shrunk_and_their_masks_are_not(labeler: Labeler) -> None:
    photograph = np.random.default_rng(0).integers(0, 256, (100, 200, 3), np.uint8)
    labeled = labeler(photograph, Choices())
    assert labeled.labels.shape == labeled.photograph.shape[:2] == (48, 96)
    assert labeled.mask().shape == (100, 200)
    np.testing.assert_array_equal(labeled.mask()[1::2, 1::2][:5, :5], labeled.labels[:5, :5])
    assert set(np.unique(labeled.mask())) <= set(np.unique(labeled.labels))


def test_strides_are_those_that_the_network_can_have(labeler: Labeler, network: Segmentor) -> None:
    assert labeler.output_strides == [8, 16, 32]
    assert network.output_stride == 16
    overrides = ["backbone.name=test_resnet", "upsampler=sub_pixel"]
    fixed = atrous.create("deeplabv3", "timm", num_classes=2, overrides=overrides).eval()
    assert Labeler(fixed, device=CPU, mixed=False, longest_side=64, megapixels=1).output_strides == [16]


def saved(picture: Image.Image, path: Path, **options: object) -> Path:
    file = BytesIO()
    picture.save(file, format="JPEG", **options)
    path.write_bytes(file.getvalue())
    return path


def test_photographs_are_read_upright(labeler: Labeler, tmp_path: Path) -> None:
    lying = Image.new("RGB", (40, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    assert labeler.read(saved(lying, tmp_path / "a.jpg", exif=exif)).shape == (40, 20, 3)


def test_what_is_no_photograph_is_refused_before_it_costs_anything(labeler: Labeler, tmp_path: Path) -> None:
    path = saved(Image.new("RGB", (400, 300)), tmp_path / "large.jpg")
    with pytest.raises(AtrousError, match=r"has 400×300 pixels; at most 0\.1 million are taken here"):
        labeler.read(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(AtrousError):
        labeler.read(path)
    path.write_bytes(b"<html>")
    with pytest.raises(AtrousError, match="not a picture in a known format"):
        labeler.read(path)


def test_impossible_limits(network: Segmentor) -> None:
    with pytest.raises(AtrousError, match="longest_side=3 must be at least 16"):
        Labeler(network, device=CPU, mixed=False, longest_side=3, megapixels=1)
    with pytest.raises(AtrousError, match="max_megapixels=0 must be greater than 0"):
        Labeler(network, device=CPU, mixed=False, longest_side=64, megapixels=0)
