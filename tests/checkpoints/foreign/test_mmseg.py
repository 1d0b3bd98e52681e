"""Moving mmsegmentation's weights keeps the logits."""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atrous.checkpoints.foreign import Translation, translate
from atrous.errors import AtrousError
from atrous.models.segmentor import Segmentor

NORM = {"type": "BN"}
RATES = (1, 12, 24, 36)


class _Stub(types.ModuleType):
    """A module whose every name is an empty class: nothing that these networks run is in it."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


@pytest.fixture(scope="module")
def mmseg() -> Iterator[dict[str, Any]]:
    """Its classes by name; compiled operators, which mmcv-lite lacks, are stubbed."""
    mmcv = pytest.importorskip("mmcv")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mmcv, "__version__", "2.1.0")  # the newest that mmsegmentation lets pass
        patch.setitem(sys.modules, "mmcv.ops", _Stub("mmcv.ops"))
        if importlib.util.find_spec("ftfy") is None:
            patch.setitem(sys.modules, "ftfy", _Stub("ftfy"))
        pytest.importorskip("mmseg")
        backbones = importlib.import_module("mmseg.models.backbones")
        heads = importlib.import_module("mmseg.models.decode_heads")
        yield vars(backbones) | vars(heads)


class Network(nn.Module):
    """Backbone and heads under the names of its ``EncoderDecoder``, logits enlarged as there."""

    def __init__(self, mmseg: dict[str, Any], backbone: str, head: str, align_corners: bool, **options: Any) -> None:
        super().__init__()
        self.align_corners = align_corners
        common = {"num_classes": 5, "norm_cfg": NORM, "align_corners": align_corners}
        self.backbone = mmseg[backbone](
            depth=50, dilations=(1, 1, 2, 4), strides=(1, 2, 1, 1), norm_cfg=NORM, contract_dilation=True
        )
        self.decode_head = mmseg[head](in_channels=2048, in_index=3, channels=32, dilations=RATES, **common, **options)
        self.auxiliary_head = mmseg["FCNHead"](
            in_channels=1024, in_index=2, channels=24, num_convs=1, concat_input=False, **common
        )

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = self.backbone(image)
        logits = F.interpolate(
            self.decode_head(features), image.shape[-2:], mode="bilinear", align_corners=self.align_corners
        )
        return logits, self.auxiliary_head(features)


@pytest.mark.parametrize(
    ("backbone", "head", "align_corners", "options"),
    [
        ("ResNetV1c", "ASPPHead", False, {}),
        ("ResNet", "DepthwiseSeparableASPPHead", True, {"c1_in_channels": 256, "c1_channels": 12}),
        ("ResNetV1c", "DepthwiseSeparableASPPHead", False, {"c1_in_channels": 256, "c1_channels": 48}),
    ],
)
@torch.no_grad()
def test_logits_are_theirs(
    backbone: str, head: str, align_corners: bool, options: dict[str, int], mmseg: dict[str, Any],
    shaken: Callable[[nn.Module], nn.Module], rebuilt: Callable[[Translation], Segmentor], pictures: Any,
    rates: Callable[[nn.Module], list[int]],
) -> None:  # fmt: skip
    torch.manual_seed(0)
    network = shaken(Network(mmseg, backbone, head, align_corners, **options))
    translation = translate("mmseg", network.state_dict(), align_corners=align_corners)
    assert translation.unused == ()
    segmentor = rebuilt(translation)
    assert sorted(rates(segmentor.head)) == sorted(rates(network.decode_head))
    assert rates(segmentor.backbone) == rates(network.backbone)
    image, normalized = pictures(66, 90)
    logits, auxiliary = network(normalized(segmentor))
    assert 0.1 < logits.abs().max() < 100
    torch.testing.assert_close(segmentor(image), logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(segmentor(image, outputs="scores")["auxiliary"], auxiliary, rtol=1e-4, atol=1e-4)


def test_a_resnet_with_average_pooling_in_its_shortcuts_is_refused(mmseg: dict[str, Any]) -> None:
    state = {f"backbone.{name}": value for name, value in mmseg["ResNetV1d"](depth=50).state_dict().items()}
    with pytest.raises(AtrousError, match="ResNetV1d; source=mmseg knows ResNet and ResNetV1c"):
        translate("mmseg", state)
