"""Upsamplers: class scores become logits at full resolution."""

from atrous.models.upsamplers.bilinear import Bilinear
from atrous.models.upsamplers.deconvolution import Deconvolution
from atrous.models.upsamplers.dupsampling import DUpsampling
from atrous.models.upsamplers.sub_pixel import SubPixel
from atrous.models.upsamplers.upsampler import Upsampler

__all__ = ["Bilinear", "DUpsampling", "Deconvolution", "SubPixel", "Upsampler"]
