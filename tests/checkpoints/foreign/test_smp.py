"""Moving segmentation_models.pytorch's weights keeps the logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from atrous.checkpoints.foreign import Translation, translate
from atrous.errors import AtrousError
from atrous.models.segmentor import Segmentor

CASES = [
    ("DeepLabV3", "resnet18", {}, {}),
    ("DeepLabV3", "resnet50", {"encoder_output_stride": 16, "decoder_aspp_separable": True}, {"output_stride": 16}),
    ("DeepLabV3Plus", "resnet18", {}, {}),
    (
        "DeepLabV3Plus",
        "resnet50",
        {"encoder_output_stride": 8, "decoder_aspp_separable": False, "decoder_atrous_rates": (4, 8, 12)},
        {"output_stride": 8, "rates": (4, 8, 12)},
    ),
    ("DeepLabV3Plus", "tu-xception41", {}, {"backbone": "xception41"}),  # whose parts timm renames
    (
        "DeepLabV3Plus",
        "tu-mobilenetv2_050",
        {"encoder_output_stride": 8},
        {"backbone": "mobilenetv2_050", "output_stride": 8},
    ),
]


def build(kind: str, encoder: str, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    network: nn.Module = getattr(smp, kind)(
        encoder, encoder_weights=None, classes=5, decoder_channels=64, aux_params={"classes": 3}, **options
    )
    return network


@pytest.mark.parametrize(("kind", "encoder", "theirs", "ours"), CASES, ids=lambda value: str(value)[:20])
@torch.no_grad()
def test_logits_are_theirs(
    kind: str, encoder: str, theirs: dict[str, Any], ours: dict[str, Any],
    shaken: Callable[[nn.Module], nn.Module], rebuilt: Callable[[Translation], Segmentor], pictures: Any,
    rates: Callable[[nn.Module], list[int]],
) -> None:  # fmt: skip
    """On images of a multiple of the output stride, which it demands."""
    network = shaken(build(kind, encoder, **theirs))
    translation = translate("smp", network.state_dict(), **ours)
    assert {name.split(" ")[0] for name in translation.unused} == {
        "classification_head.3.weight",
        "classification_head.3.bias",
    }
    segmentor = rebuilt(translation)
    assert rates(segmentor.head) == rates(network.decoder)
    assert rates(segmentor.backbone) == rates(network.encoder)
    image, normalized = pictures(96, 64)
    wanted: Tensor = network(normalized(segmentor))[0]
    assert 0.1 < wanted.abs().max() < 100
    torch.testing.assert_close(segmentor(image), wanted, rtol=1e-4, atol=1e-4)


def test_older_files_number_the_decoder() -> None:
    state = build("DeepLabV3", "resnet18").state_dict()
    parts = {"decoder.aspp.": "decoder.0.", "decoder.conv.": "decoder.1.", "decoder.bn.": "decoder.2."}
    older = {}
    for name, tensor in state.items():
        part = next((part for part in parts if name.startswith(part)), None)
        older[name if part is None else parts[part] + name.removeprefix(part)] = tensor
    assert older.keys() != state.keys()
    mine, theirs = translate("smp", older).state, translate("smp", state).state
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_other_encoders_and_impossible_rates_are_refused() -> None:
    with pytest.raises(AtrousError, match="resnet50, resnet101"):
        translate("smp", {"encoder.features.0.0.weight": torch.zeros(1)})
    with pytest.raises(AtrousError, match="would not be whole numbers"):
        translate("smp", build("DeepLabV3", "resnet18").state_dict(), rates=[3, 5, 7])
