"""Counted memory of training beside what a process takes."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

import atrous
from atrous.commands.benchmark.command import run_suite
from atrous.commands.benchmark.suites.training_memory import _together, count_activations
from atrous.errors import AtrousError
from atrous.losses import CrossEntropy
from atrous.memory import forget_peak_memory, peak_memory
from atrous.models import Segmentor
from atrous.models.atrous_convolution import compute_by
from atrous.training.full_size_loss import full_size_losses

SMALL = ("model.head.aspp_channels=8", "model.head.decoder_channels=8")


def network() -> Segmentor:
    segmentor = atrous.create("deeplabv3plus", "resnet18", num_classes=3, pretrained=False, overrides=SMALL)
    compute_by(segmentor, "torch")
    return segmentor.train()


def images(batch: int, side: int, device: str) -> tuple[Tensor, Tensor]:
    image = torch.zeros(batch, 3, side, side, dtype=torch.uint8, device=device)
    mask = torch.zeros(batch, side, side, dtype=torch.long, device=device)
    return image.contiguous(memory_format=torch.channels_last), mask


def test_counts_are_those_of_tensors_that_hold_numbers() -> None:
    """But for statistics of norms, of which there are more on the meta device."""
    real = count_activations(network(), *images(2, 65, "cpu"))
    counted = count_activations(network().to("meta"), *images(2, 65, "meta"))
    assert counted.activations == pytest.approx(real.activations, rel=0.03)
    assert counted.largest_unit == pytest.approx(real.largest_unit, rel=0.03)
    assert 0 < real.largest_unit < real.activations


def test_a_convolution_keeps_its_input_and_a_norm_its_own() -> None:
    """The largest unit by hand: float32 maps of the first stage, at stride 4 with 64 channels."""
    held = count_activations(network().to("meta"), *images(2, 65, "meta"))
    size = 4 * 2 * 64 * 17 * 17
    # results of both convolutions and both norms, and of their sum with the unit's input, which was kept before
    assert held.largest_unit == 5 * size + 2 * 2 * 4 * 64  # and of each norm a mean and a scale


@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak cannot be forgotten elsewhere")
def test_a_process_takes_what_was_counted() -> None:
    segmentor = network().to(memory_format=torch.channels_last)
    image, mask = images(8, 257, "cpu")
    counted = count_activations(network().to("meta"), *images(8, 257, "meta"))
    assert forget_peak_memory()
    before = peak_memory()
    losses = full_size_losses(segmentor, CrossEntropy(), image, mask)
    taken = peak_memory() - before
    assert losses["main"].requires_grad
    assert 0.9 < taken / counted.activations < 1.4


def test_shares_and_second_computation() -> None:
    case: dict[str, Any] = {"model": "deeplabv3plus", "backbone": "resnet18", "classes": 3, "images": 2, "crop": 65}
    result = run_suite("training_memory", {"cases": {"a": case}, "processes": [1, 4]}, Console(quiet=True))
    (row,) = result["rows"]
    whole = atrous.create("deeplabv3plus", "resnet18", num_classes=3, pretrained=False)
    weights = sum(4 * tensor.numel() for tensor in whole.parameters())
    assert row["learning"] == row["shared"][1] == 3 * weights
    assert 3 * weights / 4 < row["shared"][4] < 3 * weights
    whole.train().to("meta").checkpoint_activations()
    inputs = count_activations(whole, *images(2, 65, "meta")).activations
    assert row["computed_again"] == inputs + row["largest_unit"] < row["activations"]


def test_the_largest_part_of_a_shared_network_is_whole_for_a_while() -> None:
    segmentor = network()
    for layer in segmentor.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.requires_grad_(False)
    rest = sum(4 * tensor.numel() for tensor in segmentor.parameters() if tensor.requires_grad)
    assert 0 < _together(segmentor) < rest


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ({"model": "deeplabv3plus"}, "cases.a needs either model and backbone, or search"),
        (
            {"model": "deeplabv3plus", "backbone": "resnet18", "size": 3},
            "cases.a.size is unknown; choose one of backbo",
        ),
        ({"model": "deeplabv3plus", "backbone": "resnet18", "images": 0}, "cases.a.images=0 must be at least 1"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(case: dict[str, Any], words: str) -> None:
    with pytest.raises(AtrousError, match=words):
        run_suite("training_memory", {"cases": {"a": case}}, Console(quiet=True))
