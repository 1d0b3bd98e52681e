"""What this machine's processor is good at."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

WIDE_VECTORS: Final = "AVX512" in torch.backends.cpu.get_cpu_capability()
"""Whether the convolution library has its fast path for depthwise atrous layers: with AVX-512 it does."""

BF16: Final = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
"""Whether the convolution library computes in bf16; otherwise it falls back on plain loops."""


def computed_in(feature: Tensor) -> torch.dtype:
    """Precision to compute a map of some precision in: float32 for bf16 on a processor without it."""
    without = feature.dtype == torch.bfloat16 and feature.device.type == "cpu" and not BF16
    return torch.float32 if without else feature.dtype
