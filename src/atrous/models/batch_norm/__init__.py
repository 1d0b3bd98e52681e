"""Batch norm on the CPU in fewer passes over memory, and folded into convolutions for prediction."""

from atrous.models.batch_norm.folding import fold_batch_norms
from atrous.models.batch_norm.function import clamped_batch_norm
from atrous.models.batch_norm.kernel import Bounds
from atrous.models.batch_norm.layer import fuse_batch_norms

__all__ = ["Bounds", "clamped_batch_norm", "fold_batch_norms", "fuse_batch_norms"]
