"""Upsamplers: class scores become logits at full resolution."""

from atrous.upsamplers.bilinear import Bilinear, resize

__all__ = ["Bilinear", "resize"]
