"""Prediction: image files become label maps and overlays on disk."""

from atrous.commands.predict.command import main
from atrous.commands.predict.image_files import SUFFIXES, ImageFile, find_images, read_rgb
from atrous.commands.predict.pipeline import Result, predict_files
from atrous.commands.predict.predictor import Predictor, choose_device
from atrous.commands.predict.progress import with_progress
from atrous.commands.predict.result_files import ResultFiles

__all__ = [
    "SUFFIXES",
    "ImageFile",
    "Predictor",
    "Result",
    "ResultFiles",
    "choose_device",
    "find_images",
    "main",
    "predict_files",
    "read_rgb",
    "with_progress",
]
