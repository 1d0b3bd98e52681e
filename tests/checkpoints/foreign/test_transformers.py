"""Moving the weights of Hugging Face's segmentation network keeps the logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from atrous.checkpoints.foreign import Translation, translate
from atrous.errors import AtrousError
from atrous.models.segmentor import Segmentor

transformers = pytest.importorskip("transformers")


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("width", [1.0, 0.35])
@torch.no_grad()
def test_logits_are_theirs(
    width: float, output_stride: int,
    shaken: Callable[[nn.Module], nn.Module], rebuilt: Callable[[Translation], Segmentor], pictures: Any,
) -> None:  # fmt: skip
    """With TensorFlow's padding; its logits are not enlarged."""
    torch.manual_seed(0)
    config = transformers.MobileNetV2Config(depth_multiplier=width, output_stride=output_stride, num_labels=21)
    assert config.tf_padding
    network = shaken(transformers.MobileNetV2ForSemanticSegmentation(config))
    translation = translate("transformers", network.state_dict(), output_stride=output_stride)
    assert translation.unused
    assert all(name.startswith("mobilenet_v2.conv_1x1.") for name in translation.unused)
    segmentor = rebuilt(translation)
    image, _ = pictures(97, 129)
    wanted = network(image / 127.5 - 1).logits
    assert 0.1 < wanted.abs().max() < 100
    torch.testing.assert_close(segmentor(image, outputs="scores")["main"], wanted, rtol=1e-4, atol=1e-4)


def test_other_weights_are_refused() -> None:
    with pytest.raises(AtrousError, match="not weights of a network that source=transformers knows"):
        translate("transformers", {"mobilenet_v2.x": torch.zeros(1)})
