"""Inference: images become class probabilities at their own size."""

from atrous.inference.inference import Band, Inference, InferenceProtocol, Stage, most_probable
from atrous.inference.multi_scale import MultiScale
from atrous.inference.padded import Padded
from atrous.inference.refined import Refined
from atrous.inference.sliding_window import SlidingWindow
from atrous.inference.stretched import Stretched
from atrous.inference.whole_image import WholeImage

__all__ = [
    "Band",
    "Inference",
    "InferenceProtocol",
    "MultiScale",
    "Padded",
    "Refined",
    "SlidingWindow",
    "Stage",
    "Stretched",
    "WholeImage",
    "most_probable",
]
