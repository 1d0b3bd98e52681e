"""Inference: an image becomes class probabilities at its own size."""

from atrous.inference.inference import Inference, InferenceProtocol
from atrous.inference.padded import Padded
from atrous.inference.stretched import Stretched
from atrous.inference.whole_image import WholeImage

__all__ = ["Inference", "InferenceProtocol", "Padded", "Stretched", "WholeImage"]
