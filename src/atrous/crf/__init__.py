"""CRFs and other refiners: class probabilities follow the edges of their image."""

from atrous.crf.backend import Prepared
from atrous.crf.dense_crf import DenseCRF
from atrous.crf.guided_filter import GuidedFilter
from atrous.crf.kernels import Bilateral, Gaussian, Kernel, Neighbors
from atrous.crf.pamr import PAMR
from atrous.crf.refiner import Refiner

__all__ = ["PAMR", "Bilateral", "DenseCRF", "Gaussian", "GuidedFilter", "Kernel", "Neighbors", "Prepared", "Refiner"]
