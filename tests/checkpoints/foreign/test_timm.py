"""A classifier's weights as the backbone of a network."""

from __future__ import annotations

import pytest
import timm
import torch

from atrous.checkpoints.foreign import translate
from atrous.composition.parts import build_segmentor
from atrous.errors import AtrousError


def test_the_backbone_is_moved_and_the_classifier_is_not() -> None:
    torch.manual_seed(0)
    theirs = timm.create_model("test_resnet", pretrained=False).eval()
    translation = translate("timm", theirs.state_dict(), backbone="test_resnet", classes=["a", "b"])
    assert {name.split(" ")[0] for name in translation.unused} == {"fc.weight", "fc.bias"}
    segmentor = build_segmentor(translation.model, translation.num_classes).eval()
    result = segmentor.load_state_dict(translation.state, strict=False)
    assert result.unexpected_keys == []
    assert all(name.startswith(translation.missing) for name in result.missing_keys)
    segmentor.set_output_stride(32)
    image = torch.randn(1, 3, 65, 65)
    torch.testing.assert_close(segmentor.backbone(image)[-1], theirs.forward_features(image))


def test_the_model_must_be_named_and_fit() -> None:
    with pytest.raises(AtrousError, match=r"import_weights\.backbone="):
        translate("timm", {})
    state = timm.create_model("test_resnet", pretrained=False).state_dict()
    with pytest.raises(AtrousError, match="no tensor"):
        translate("timm", state, backbone="resnet18")
