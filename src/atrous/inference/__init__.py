"""Inference: an image becomes class probabilities at its own size."""

from atrous.inference.stretched import Stretched
from atrous.inference.whole_image import WholeImage

__all__ = ["Stretched", "WholeImage"]
