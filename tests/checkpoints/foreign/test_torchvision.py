"""Moving torchvision's weights keeps the logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import segmentation

from atrous.checkpoints.foreign import Translation, translate
from atrous.errors import AtrousError
from atrous.models.segmentor import Segmentor

NAMES = ("deeplabv3_resnet50", "deeplabv3_resnet101", "deeplabv3_mobilenet_v3_large")
PARAMETERS = {NAMES[0]: 42_004_074, NAMES[1]: 60_996_202, NAMES[2]: 11_029_328}  # torchvision's own meta data


@pytest.fixture(scope="module", params=NAMES)
def pair(
    request: pytest.FixtureRequest,
    shaken: Callable[[nn.Module], nn.Module],
    rebuilt: Callable[[Translation], Segmentor],
) -> tuple[str, nn.Module, Segmentor]:
    torch.manual_seed(0)
    build: Any = getattr(segmentation, request.param)
    theirs = shaken(build(weights=None, weights_backbone=None, aux_loss=True))
    translation = translate("torchvision", theirs.state_dict())
    assert translation.unused == ()
    return request.param, theirs, rebuilt(translation)


@torch.no_grad()
def test_logits_are_theirs(pair: tuple[str, nn.Module, Segmentor], pictures: Any) -> None:
    _, theirs, ours = pair
    image, normalized = pictures(90, 121)
    mine, wanted = ours(image, outputs="all"), theirs(normalized(ours))
    scale = wanted["out"].abs().max()
    assert 0.1 < scale < 1e4
    assert float((mine["main"] - wanted["out"]).abs().max() / scale.clamp(min=1)) < 1e-4
    # the auxiliary logits are of use in training only; ours are enlarged as the backbone's grid is, so compare scores
    scores: dict[str, Tensor] = ours(image, outputs="scores")
    features = theirs.backbone(normalized(ours))["aux"]
    torch.testing.assert_close(scores["auxiliary"], theirs.aux_classifier(features), rtol=1e-4, atol=1e-4)


def test_rates_are_theirs(pair: tuple[str, nn.Module, Segmentor], rates: Callable[[nn.Module], list[int]]) -> None:
    _, theirs, ours = pair
    assert rates(ours.head) == rates(theirs.classifier) == [12, 24, 36, 1]


def test_every_parameter_is_moved(pair: tuple[str, nn.Module, Segmentor]) -> None:
    name, _, ours = pair
    assert sum(parameter.numel() for parameter in ours.parameters()) == PARAMETERS[name]


def test_other_weights_are_refused() -> None:
    with pytest.raises(AtrousError, match="not weights of a network that source=torchvision knows"):
        translate("torchvision", {"conv.weight": torch.zeros(1)})
    with pytest.raises(AtrousError, match="has no option 'rates'"):
        translate("torchvision", {}, rates=[1])
