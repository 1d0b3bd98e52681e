"""Heads: features become class scores."""

from atrous.models.heads.aspp import ASPP, ImagePooling
from atrous.models.heads.aspp_sum import ASPPSumHead
from atrous.models.heads.cascade import CascadeHead
from atrous.models.heads.deeplabv3 import DeepLabV3Head
from atrous.models.heads.deeplabv3plus import DeepLabV3PlusHead
from atrous.models.heads.dupsampling import DUpsamplingHead
from atrous.models.heads.fcn import FCNHead
from atrous.models.heads.foreign import (
    MMSegDeepLabV3Head,
    MMSegDeepLabV3PlusHead,
    SMPDeepLabV3Head,
    SMPDeepLabV3PlusHead,
    TFLiteDeepLabV3Head,
    TorchvisionDeepLabV3Head,
)
from atrous.models.heads.head import Head
from atrous.models.heads.large_fov import LargeFOVHead
from atrous.models.heads.multi_scale_taps import MultiScaleTapsHead

__all__ = [
    "ASPP",
    "ASPPSumHead",
    "CascadeHead",
    "DUpsamplingHead",
    "DeepLabV3Head",
    "DeepLabV3PlusHead",
    "FCNHead",
    "Head",
    "ImagePooling",
    "LargeFOVHead",
    "MMSegDeepLabV3Head",
    "MMSegDeepLabV3PlusHead",
    "MultiScaleTapsHead",
    "SMPDeepLabV3Head",
    "SMPDeepLabV3PlusHead",
    "TFLiteDeepLabV3Head",
    "TorchvisionDeepLabV3Head",
]
