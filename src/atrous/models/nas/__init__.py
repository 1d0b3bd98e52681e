"""Auto-DeepLab (arXiv 1901.02985): what is searched, what was found, and how one becomes the other."""

from atrous.models.nas.architecture import Architecture
from atrous.models.nas.auto_deeplab import AutoDeepLab
from atrous.models.nas.genotype import Genotype, Operation
from atrous.models.nas.search_head import SearchHead
from atrous.models.nas.supernet import Supernet
from atrous.models.nas.trellis import Trellis

__all__ = ["Architecture", "AutoDeepLab", "Genotype", "Operation", "SearchHead", "Supernet", "Trellis"]
