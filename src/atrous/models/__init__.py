"""Models: everything between an image and its logits, in plain PyTorch."""

from atrous.models.multi_scale_segmentor import MultiScaleSegmentor
from atrous.models.network import Network
from atrous.models.segmentor import Segmentor

__all__ = ["MultiScaleSegmentor", "Network", "Segmentor"]
