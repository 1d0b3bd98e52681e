"""Upsamplers: class scores become logits at full resolution."""

from atrous.upsamplers.bilinear import Bilinear, resize
from atrous.upsamplers.deconvolution import Deconvolution
from atrous.upsamplers.dupsampling import DUpsampling
from atrous.upsamplers.label_code import LabelCode
from atrous.upsamplers.sub_pixel import SubPixel
from atrous.upsamplers.upsampler import Upsampler

__all__ = ["Bilinear", "DUpsampling", "Deconvolution", "LabelCode", "SubPixel", "Upsampler", "resize"]
