"""What this machine's processor is good at."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from atrous.geometry import size_of
from atrous.models.atrous_convolution.taps import Taps

WIDE_VECTORS: Final = "AVX512" in torch.backends.cpu.get_cpu_capability()
"""Whether the convolution library has its fast path for depthwise atrous layers: with AVX-512 it does."""

BF16: Final = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
"""Whether the convolution library computes in bf16; otherwise it falls back on plain loops."""


def computed_in(feature: Tensor, taps: Taps | None = None) -> torch.dtype:
    """Precision to compute a map of some precision in: float32 for bf16 that the processor or the library cannot do.

    Args:
        feature: Map B×C×h×w.
        taps: Geometry, if the library is to convolve the map.
    """
    if feature.dtype != torch.bfloat16 or feature.device.type != "cpu":
        return feature.dtype
    return feature.dtype if BF16 and (taps is None or taps.is_usual_for(size_of(feature))) else torch.float32
