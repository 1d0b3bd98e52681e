"""Prediction: image files become label maps and overlays on disk."""

from atrous.prediction.image_files import SUFFIXES, ImageFile, find_images, read_rgb
from atrous.prediction.pipeline import Result, predict_files
from atrous.prediction.predictor import Predictor, choose_device
from atrous.prediction.progress import with_progress
from atrous.prediction.result_files import ResultFiles

__all__ = [
    "SUFFIXES",
    "ImageFile",
    "Predictor",
    "Result",
    "ResultFiles",
    "choose_device",
    "find_images",
    "predict_files",
    "read_rgb",
    "with_progress",
]
