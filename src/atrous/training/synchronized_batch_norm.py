"""Batch norms that take their statistics over all processes."""

from __future__ import annotations

from lightning.pytorch.plugins.layer_sync import LayerSync
from timm.layers.norm_act import BatchNormAct2d, SyncBatchNormAct
from torch import nn

_HOOKS = ("_forward_hooks", "_forward_pre_hooks")


class SynchronizedBatchNorm(LayerSync):
    """Puts ``nn.SyncBatchNorm`` in the place of every batch norm, and takes it away again.

    Lightning's own plugin forgets the activations inside timm's batch norms (MobileNetV2, EfficientNet) and whatever
    looks at a norm's result, and brings back norms of another class.
    """

    def __init__(self) -> None:
        self._replaced: dict[str, nn.BatchNorm2d] = {}

    def apply(self, model: nn.Module) -> nn.Module:
        """Replace the batch norms; tensors and hooks stay the same objects."""
        for name, norm in list(model.named_modules()):
            if isinstance(norm, nn.BatchNorm2d):
                self._replaced[name] = norm
                model.set_submodule(name, _synchronized(norm))
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Bring the batch norms back, with what was learned."""
        for name, norm in self._replaced.items():
            other = model.get_submodule(name)
            _share_tensors(other, norm)
            norm.train(other.training)
            model.set_submodule(name, norm)
        self._replaced.clear()
        return model


def _synchronized(norm: nn.BatchNorm2d) -> nn.SyncBatchNorm:
    kind = SyncBatchNormAct if isinstance(norm, BatchNormAct2d) else nn.SyncBatchNorm
    other: nn.SyncBatchNorm = kind(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    if isinstance(norm, BatchNormAct2d):
        other.drop, other.act = norm.drop, norm.act
    _share_tensors(norm, other)
    for hooks in _HOOKS:
        getattr(other, hooks).update(getattr(norm, hooks))
    return other.train(norm.training)


def _share_tensors(source: nn.Module, target: nn.Module) -> None:
    for name, parameter in source.named_parameters(recurse=False):
        setattr(target, name, parameter)
    for name, buffer in source.named_buffers(recurse=False):
        setattr(target, name, buffer)
