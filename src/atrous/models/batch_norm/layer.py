"""Batch norms of a network that compute the activation after them too, in the same passes over memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from atrous.models.batch_norm.function import clamped_batch_norm
from atrous.models.batch_norm.kernel import Bounds

_BOUNDS: dict[type[nn.Module], Bounds] = {nn.ReLU: Bounds(0), nn.ReLU6: Bounds(0, 6)}
"""Activations that are a clamp."""


class FusedBatchNorm2d(nn.BatchNorm2d):
    """``nn.BatchNorm2d``, with the activation after it, so hooks of later see a clamped result.

    Attributes:
        bounds: The activation that follows, as a clamp.
        has_clamped: Whether the result on its way to the activation is clamped already.
    """

    bounds: Bounds = Bounds()
    has_clamped: bool = False

    def forward(self, input: Tensor) -> Tensor:
        """Normalize B×C×h×w, and clamp it."""
        self._check_input_dim(input)
        result = _compute(self, input, self.bounds)
        self.has_clamped = self.bounds != Bounds()
        return result


class FusedBatchNormAct2d(BatchNormAct2d):
    """timm's batch norm with an activation inside."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalize B×C×h×w, and clamp it."""
        bounds = _BOUNDS.get(type(self.act)) if isinstance(self.drop, nn.Identity) else None
        if bounds is not None and not self.act._forward_hooks and not self.act._forward_pre_hooks:
            return _compute(self, x, bounds)
        result: Tensor = self.act(self.drop(_compute(self, x, Bounds())))
        return result


class _AfterNorm(nn.Module):
    """An activation that leaves alone what the batch norm before it has clamped.

    The norm says so at every call, so an activation still acts where another module has taken the norm's place
    (``nn.SyncBatchNorm``, or nothing once it is folded).
    """

    norm: tuple[FusedBatchNorm2d]  # in a tuple, so that it is no part of this module

    def forward(self, input: Tensor) -> Tensor:
        """Clamp B×C×h×w, unless it is."""
        (norm,) = self.norm
        if norm.has_clamped:
            norm.has_clamped = False
            return input
        result: Tensor = super().forward(input)
        return result


class ReLUAfterNorm(_AfterNorm, nn.ReLU):
    """``nn.ReLU`` after a batch norm."""


class ReLU6AfterNorm(_AfterNorm, nn.ReLU6):
    """``nn.ReLU6`` after a batch norm."""


_FUSED: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm2d: FusedBatchNorm2d,
    BatchNormAct2d: FusedBatchNormAct2d,
}
_AFTER_NORM: dict[type[nn.Module], type[_AfterNorm]] = {nn.ReLU: ReLUAfterNorm, nn.ReLU6: ReLU6AfterNorm}


def _compute(norm: nn.BatchNorm2d, feature: Tensor, bounds: Bounds) -> Tensor:
    """As ``nn.BatchNorm2d`` computes."""
    learns = norm.training or norm.running_mean is None
    tracks = not norm.training or norm.track_running_stats
    momentum = 0.0 if norm.momentum is None else norm.momentum
    if norm.training and norm.track_running_stats and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        if norm.momentum is None:  # the mean over all batches
            momentum = 1.0 / float(norm.num_batches_tracked)
    running = None
    if tracks and norm.running_mean is not None and norm.running_var is not None:
        running = (norm.running_mean, norm.running_var)
    return clamped_batch_norm(
        feature, norm.weight, norm.bias, running, learns=learns, momentum=momentum, eps=norm.eps, bounds=bounds
    )


def fuse_batch_norms(network: nn.Module, run: Callable[[], object]) -> None:
    """Let batch norms be computed by ``clamped_batch_norm``, with the ReLU or ReLU6 after them.

    The layers stay the same objects, with the same names, tensors and hooks; only their class changes.

    Args:
        network: Changed in place.
        run: Runs the network once, in evaluation mode, so that it can be seen which activation follows which norm.
    """
    for layer in network.modules():
        fused = _FUSED.get(type(layer))  # subclasses compute something else
        if fused is not None:
            layer.__class__ = fused
    for norm, activation in _Pairs(network).seen_in(run):
        norm.bounds = _BOUNDS[type(activation)]
        activation.__class__ = _AFTER_NORM[type(activation)]
        assert isinstance(activation, _AfterNorm)
        activation.norm = (norm,)


class _Pairs(TorchFunctionMode):
    """Finds norms whose result nothing but one activation sees, which sees nothing else."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._network = network
        self._results: dict[int, tuple[Tensor, FusedBatchNorm2d]] = {}  # tensors are kept, so no id is used twice
        self._users: dict[FusedBatchNorm2d, list[nn.Module | None]] = {}  # None for what is no activation
        self._calls: dict[nn.Module, int] = {}  # of activations
        self._activation: nn.Module | None = None  # the one that is running

    def seen_in(self, run: Callable[[], object]) -> list[tuple[FusedBatchNorm2d, nn.Module]]:
        """Norms and their activations."""
        handles = []
        for module in self._network.modules():
            looked_at = len(module._forward_hooks) > 0
            if isinstance(module, FusedBatchNorm2d):
                handles.append(module.register_forward_hook(self._note_result))
            if type(module) in _AFTER_NORM:
                handles.append(module.register_forward_pre_hook(self._enter))
                handles.append(module.register_forward_hook(self._leave, prepend=True))
            elif not isinstance(module, nn.Identity) and not list(module.children()):
                handles.append(module.register_forward_pre_hook(self._note_input))  # it may act in training alone
            if looked_at:
                handles.append(module.register_forward_hook(self._note_output))
        try:
            with self:
                run()
        finally:
            for handle in handles:
                handle.remove()
        return [
            (norm, user)
            for norm, (user, *others) in self._users.items()
            if user is not None and not others and self._calls[user] == 1
        ]

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(isinstance(each, Tensor) for each in _flat(result)):  # not what asks for a size
            for each in _flat((args, tuple((kwargs or {}).values()))):
                self._note_use(each, self._activation)
        return result

    def _note_use(self, value: object, user: nn.Module | None) -> None:
        _, norm = self._results.get(id(value), (None, None))
        if norm is not None:
            self._users.setdefault(norm, []).append(user)

    def _note_result(self, norm: nn.Module, inputs: tuple[Tensor, ...], result: Tensor) -> None:
        assert isinstance(norm, FusedBatchNorm2d)
        self._results[id(result)] = (result, norm)

    def _note_input(self, module: nn.Module, inputs: tuple[object, ...]) -> None:
        for each in inputs:
            self._note_use(each, None)

    def _note_output(self, module: nn.Module, inputs: object, output: object) -> None:
        self._note_use(output, None)

    def _enter(self, activation: nn.Module, inputs: object) -> None:
        self._activation = activation
        self._calls[activation] = self._calls.get(activation, 0) + 1

    def _leave(self, activation: nn.Module, inputs: object, output: object) -> None:
        self._activation = None
        self._results.pop(id(output), None)  # changed in place, it is no longer the norm's


def _flat(values: object) -> Iterator[object]:
    if isinstance(values, tuple | list):
        for each in values:
            yield from _flat(each)
    else:
        yield values
