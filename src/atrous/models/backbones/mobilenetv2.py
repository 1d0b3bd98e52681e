"""MobileNetV2 in the widths of TensorFlow's DeepLab, as a model of timm's registry."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._efficientnet_builder import decode_arch_def, round_channels
from timm.models.efficientnet import EfficientNet
from torch import nn

_STAGES = (
    "ds_r1_k3_s1_c16",
    "ir_r2_k3_s2_e6_c24",
    "ir_r3_k3_s2_e6_c32",
    "ir_r4_k3_s2_e6_c64",
    "ir_r3_k3_s1_e6_c96",
    "ir_r3_k3_s2_e6_c160",
    "ir_r1_k3_s1_e6_c320",
)
"""Table 2 of arXiv 1801.04381 in timm's notation: repeats, kernel, stride, expansion, channels."""
_BATCH_NORM_EPS = 1e-3
"""TensorFlow slim's."""

default_cfgs = generate_default_cfgs(
    {
        "tf_deeplab_mobilenetv2_050.untrained": {
            "num_classes": 1000,
            "input_size": (3, 224, 224),
            "mean": (0.5, 0.5, 0.5),
            "std": (0.5, 0.5, 0.5),
            "first_conv": "conv_stem",
            "classifier": "classifier",
        }
    }
)
"""Read by timm's registry; images become −1 … 1."""


@register_model
def tf_deeplab_mobilenetv2_050(pretrained: bool = False, **options: Any) -> nn.Module:
    """Half width without rounding: DeepLab's stage of 24 channels gets 12, where slim and timm round to 16.

    In TensorFlow's DeepLab channels are multiples of 8 at full width only (``core/feature_extractor.py``,
    ``divisible_by``).
    """
    widths = partial(round_channels, multiplier=0.5, divisor=1)
    decode = cast(Callable[[list[list[str]]], Any], decode_arch_def)
    network: nn.Module = build_model_with_cfg(
        EfficientNet,
        "tf_deeplab_mobilenetv2_050",
        pretrained,
        block_args=decode([[stage] for stage in _STAGES]),
        num_features=1280,
        stem_size=32,
        round_chs_fn=widths,
        norm_layer=partial(nn.BatchNorm2d, eps=_BATCH_NORM_EPS),
        act_layer=nn.ReLU6,
        **options,
    )
    return network
