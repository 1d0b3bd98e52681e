"""Training losses on logits B×C×H×W and labels B×H×W; pixels labeled 255 take no part in any of them."""

from atrous.losses.combined import Combined
from atrous.losses.cross_entropy import CrossEntropy, MeanOverPixels
from atrous.losses.dice import Dice
from atrous.losses.enlarged import loss_of_enlarged
from atrous.losses.focal import Focal
from atrous.losses.hard_pixels import OHEM, HardPixels
from atrous.losses.loss import Loss
from atrous.losses.lovasz import LovaszSoftmax
from atrous.losses.squared_error import SquaredError

__all__ = [
    "OHEM",
    "Combined",
    "CrossEntropy",
    "Dice",
    "Focal",
    "HardPixels",
    "Loss",
    "LovaszSoftmax",
    "MeanOverPixels",
    "SquaredError",
    "loss_of_enlarged",
]
