"""Atrous convolution: an ordinary one whose taps are a number of pixels apart (DeepLabv1 §3.1)."""

from atrous.models.atrous_convolution.convolution import atrous_convolution
from atrous.models.atrous_convolution.layer import (
    AtrousConv2d,
    AtrousConv2dSame,
    compute_by,
    has_atrous_convolution,
    is_depthwise,
    rate_at,
    set_rate,
)
from atrous.models.atrous_convolution.rule import WAYS
from atrous.models.atrous_convolution.taps import Taps, memory_format_of

__all__ = [
    "WAYS",
    "AtrousConv2d",
    "AtrousConv2dSame",
    "Taps",
    "atrous_convolution",
    "compute_by",
    "has_atrous_convolution",
    "is_depthwise",
    "memory_format_of",
    "rate_at",
    "set_rate",
]
