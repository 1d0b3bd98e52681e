"""C++ of ours: compiled for this processor when it is first needed, called without a copy."""

from atrous.native.library import load_native
from atrous.native.tensors import PRECISIONS, pointers

__all__ = ["PRECISIONS", "load_native", "pointers"]
