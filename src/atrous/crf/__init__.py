"""CRFs and cheaper refiners: class probabilities follow the edges of their image."""

from atrous.crf.backend import Prepared
from atrous.crf.dense_crf import DenseCRF
from atrous.crf.kernels import Bilateral, Gaussian, Kernel, Neighbors
from atrous.crf.refiner import Refiner

__all__ = ["Bilateral", "DenseCRF", "Gaussian", "Kernel", "Neighbors", "Prepared", "Refiner"]
