"""Where numbers and pictures of a run go: metrics.csv, Weights & Biases, and TensorBoard through Lightning."""

from atrous.loggers.image_logger import ImageLogger, LabeledImage, image_loggers
from atrous.loggers.metrics_csv import MetricsCSV
from atrous.loggers.weights_and_biases import WeightsAndBiases, finish_wandb

__all__ = ["ImageLogger", "LabeledImage", "MetricsCSV", "WeightsAndBiases", "finish_wandb", "image_loggers"]
