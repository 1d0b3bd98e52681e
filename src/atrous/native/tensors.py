"""How tensors are handed to C++."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable

import torch
from torch import Tensor

PRECISIONS = {torch.float32: "float32", torch.bfloat16: "bfloat16"}
"""Precisions that kernels know, and how the names of their functions end."""


def pointers(tensors: Iterable[Tensor | None]) -> list[ctypes.c_void_p]:
    """Addresses of tensors' first numbers; null where there is none."""
    return [ctypes.c_void_p(None if tensor is None else tensor.data_ptr()) for tensor in tensors]
