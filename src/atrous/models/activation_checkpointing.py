"""Activations that are computed again on the way back instead of being kept: less memory for more time.

The inputs of a network's units are kept and nothing in between (Chen et al., arXiv 1604.06174). A unit is computed once
more when its gradient is needed; dropout draws the same numbers then, and batch norms leave their running statistics
alone, so that weights and statistics become what they would have become.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

_state = threading.local()  # a GPU's gradients are computed in threads of their own


def is_recomputing() -> bool:
    """Whether a unit is being computed once more, so that hooks have seen it before."""
    return getattr(_state, "depth", 0) > 0


def units_of(module: nn.Module) -> list[nn.Module]:
    """Parts of a network worth computing twice, in the order of its modules.

    They are the blocks in its sequences and lists, such as a ResNet's units, and sequences of single layers.
    """
    units = []
    for child in filter(_has_convolution, module.children()):
        if isinstance(child, nn.Sequential):
            is_unit = all(isinstance(layer, nn.Conv2d) or not _has_convolution(layer) for layer in child)
        else:
            is_unit = isinstance(module, nn.Sequential | nn.ModuleList) and not isinstance(child, nn.ModuleList)
        units += [child] if is_unit else units_of(child)
    return units


def recompute_in_backward(units: Sequence[nn.Module]) -> None:
    """Keep only the inputs of units until their gradients are computed.

    The units stay the same objects, with the same names, tensors and hooks; only their class changes. Hooks inside of
    them are called once more on the way back.
    """
    for unit in units:
        unit.__class__ = _recomputing(type(unit))  # type: ignore[arg-type] # mypy doubts that a class can be hashed


@functools.cache
def _recomputing(kind: type[nn.Module]) -> type[nn.Module]:
    """A class of units that computes as another one, and is that one's to everybody else."""
    if hasattr(kind, "computed_as"):
        return kind

    def forward(self: nn.Module, *inputs: Any, **options: Any) -> Any:
        compute = functools.partial(kind.forward, self)
        if not torch.is_grad_enabled() or torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
            return compute(*inputs, **options)
        contexts = functools.partial(_contexts, self)
        return checkpoint(compute, *inputs, use_reentrant=False, context_fn=contexts, **options)

    def reduce(self: nn.Module) -> tuple[Any, ...]:
        return _blank, (kind,), self.__getstate__()  # type: ignore[no-untyped-call]

    recomputing: type[nn.Module] = type(
        kind.__name__, (kind,), {"forward": forward, "__reduce__": reduce, "computed_as": kind}
    )
    return recomputing


def _blank(kind: type[nn.Module]) -> nn.Module:
    """A unit without its contents, for copies."""
    recomputing = _recomputing(kind)  # type: ignore[arg-type]
    return recomputing.__new__(recomputing)


def _contexts(unit: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Around the first and the second computation of a unit."""
    return nullcontext(), _again(unit)


@contextmanager
def _again(unit: nn.Module) -> Iterator[None]:
    with ExitStack() as stack:
        _state.depth = getattr(_state, "depth", 0) + 1
        stack.callback(_leave)
        for norm in unit.modules():
            if isinstance(norm, nn.modules.batchnorm._NormBase) and norm.training and norm.track_running_stats:
                for name, statistic in norm.named_buffers(recurse=False):
                    setattr(norm, name, statistic.clone())  # to be moved once more in the statistic's place
                    stack.callback(setattr, norm, name, statistic)
        yield


def _leave() -> None:
    _state.depth -= 1


def _has_convolution(module: nn.Module) -> bool:
    return any(isinstance(each, nn.Conv2d) for each in module.modules())
