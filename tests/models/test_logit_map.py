"""Logits that are read some rows at a time are those of the whole image."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from atrous.models import Segmentor
from atrous.models.backbones import TimmBackbone
from atrous.models.heads import ASPPSumHead


def network(backbone: str = "test_resnet", **options: Any) -> Segmentor:
    torch.manual_seed(0)
    return Segmentor(backbone=TimmBackbone(backbone), head=ASPPSumHead, num_classes=3, **options).eval()


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"extend": False}, {"backbone": "test_convnext"}])
def test_rows_of_images_of_any_size(options: dict[str, Any]) -> None:
    segmentor = network(**options)
    for height, width in [(33, 33), (50, 41), (17, 70)]:
        image = torch.rand(2, 3, height, width) * 255
        logits = segmentor.logit_map(image)
        assert (logits.batch, logits.num_classes, logits.size) == (2, 3, (height, width))
        read = torch.cat([logits.rows(slice(first, first + 7)) for first in range(0, height, 7)], dim=2)
        torch.testing.assert_close(read, segmentor(image), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_maps_of_a_batch_are_told_apart() -> None:
    segmentor = network()
    image = torch.rand(6, 3, 33, 40) * 255
    parts = list(segmentor.logit_map(image).split(2))
    assert [part.batch for part in parts] == [2, 2, 2]
    read = torch.cat([part.rows(slice(0, 33)) for part in parts])
    torch.testing.assert_close(read, segmentor(image), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_logits_are_float32_under_autocast_and_in_networks_of_half_precision() -> None:
    """Rounded to bf16, classes would tie and the first of them win."""
    segmentor, image = network(), torch.rand(1, 3, 33, 40) * 255
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = segmentor.logit_map(image).rows(slice(0, 33))
        torch.testing.assert_close(logits, segmentor(image), atol=1e-5, rtol=1e-5)
    assert logits.dtype == torch.float32
    assert segmentor.bfloat16().logit_map(image).rows(slice(0, 3)).dtype == torch.float32


@torch.no_grad()
def test_a_compiled_network_runs_compiled() -> None:
    """Maps are asked of the module by a call, which is what compiling replaces."""
    segmentor, called = network(), []
    segmentor.register_forward_pre_hook(lambda module, inputs: called.append(1))
    segmentor.logit_map(torch.rand(1, 3, 33, 33) * 255)
    assert called == [1]
