"""Images that ranges come from: of the training split, all over it, at the size of the file."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from omegaconf import DictConfig

import atrous
from atrous.commands.export.calibration import calibration_images
from atrous.composition.parts import build_data
from atrous.data import SegmentationDataModule
from atrous.exports import OnnxInt8
from atrous.models import Segmentor


@pytest.fixture(scope="module")
def segmentor() -> Segmentor:
    return atrous.create("deeplabv3", "resnet18", num_classes=2)


@pytest.fixture
def data(composed: Callable[..., DictConfig]) -> SegmentationDataModule:
    return build_data(
        composed("train", "data.dataset.size=64", "data.dataset.lengths={train: 7, val: 2, test: 1}").data
    )


def test_they_are_evenly_spaced_over_the_training_split(data: SegmentationDataModule, segmentor: Segmentor) -> None:
    found = list(calibration_images(data, OnnxInt8(images=3), segmentor))
    training = data.dataset("train")
    assert len(found) == 3
    for image, place in zip(found, (0, 3, 6), strict=True):
        np.testing.assert_array_equal(image, training[place].image.transpose(2, 0, 1))
    assert len(list(calibration_images(data, OnnxInt8(images=100), segmentor))) == 7


def test_large_ones_are_cut_and_small_ones_get_the_mean_color(
    data: SegmentationDataModule, segmentor: Segmentor
) -> None:
    (image, *_) = calibration_images(data, OnnxInt8(images=1, size=[30, 80]), segmentor)
    own = data.dataset("train")[0].image.transpose(2, 0, 1)
    assert image.shape == (3, 30, 80)
    np.testing.assert_array_equal(image[:, :, :64], own[:, :30])
    mean = segmentor.mean.flatten().round().to(torch.uint8).numpy()
    assert 100 < mean.min() < mean.max() < 130  # ImageNet's
    assert (image[:, :, 64:] == mean[:, None, None]).all()
