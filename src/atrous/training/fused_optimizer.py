"""Optimizers that update all tensors of a network in one kernel."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

_DEVICES = ("cpu", "cuda")
"""Types of devices on which PyTorch's fused kernels were compared with its loops."""


def build_optimizer(
    optimizer: Callable[..., Optimizer],
    groups: Iterable[dict[str, Any]],
    *,
    scales_gradients: bool = False,
    all_have_gradients: bool = True,
) -> Optimizer:
    """Build an optimizer, fused where it has such a form: the same weights in a fraction of the time.

    Args:
        optimizer: Called with the parameter groups. Where it says itself how to loop (``fused`` or ``foreach``), it is
            built as it says.
        groups: Parameter groups, with a list ``params`` in each.
        scales_gradients: Whether losses are scaled against underflow (float16). A fused optimizer would undo it
            within its step, so that gradients could not be clipped before.
        all_have_gradients: Whether every tensor has a gradient at every step; a fused optimizer with momentum cannot do
            without (torch 2.14).

    Raises:
        ValueError: The optimizer refused its settings.
    """
    groups = list(groups)
    if scales_gradients or not all_have_gradients or not _is_open(optimizer) or not _fits(groups):
        return optimizer(groups)
    built = optimizer(groups, fused=True)
    # Lightning asks this whether gradients are still scaled when they are clipped; nothing scales them here.
    built._step_supports_amp_scaling = False  # type: ignore[attr-defined]
    return built


def _is_open(optimizer: Callable[..., Optimizer]) -> bool:
    """Whether it has a fused form, and nobody chose among its forms."""
    parameters = inspect.signature(optimizer).parameters
    return all(name in parameters and parameters[name].default is None for name in ("fused", "foreach"))


def _fits(groups: Iterable[dict[str, Any]]) -> bool:
    """Whether fused kernels take all tensors; they know none that processes share (torch 2.14)."""
    return all(
        parameter.device.type in _DEVICES and parameter.is_floating_point() and not isinstance(parameter, DTensor)
        for group in groups
        for parameter in group["params"]
    )
