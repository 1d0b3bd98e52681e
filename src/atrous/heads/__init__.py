"""Heads: features become class scores."""

from atrous.heads.aspp import ASPP, ImagePooling
from atrous.heads.aspp_sum import ASPPSumHead
from atrous.heads.deeplabv3 import CascadeHead, DeepLabV3Head
from atrous.heads.deeplabv3plus import DeepLabV3PlusHead
from atrous.heads.dupsampling import DUpsamplingHead
from atrous.heads.fcn import FCNHead
from atrous.heads.head import Head
from atrous.heads.large_fov import LargeFOVHead
from atrous.heads.multi_scale_taps import MultiScaleTapsHead

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
    "MultiScaleTapsHead",
]
