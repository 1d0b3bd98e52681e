"""Heads: features become class scores."""

from atrous.heads.aspp import ASPP, ImagePooling
from atrous.heads.deeplabv3plus import DeepLabV3PlusHead
from atrous.heads.head import Head

__all__ = ["ASPP", "DeepLabV3PlusHead", "Head", "ImagePooling"]
