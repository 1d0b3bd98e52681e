"""Batch norm folded into the convolution before it: the form of networks that only predict."""

from __future__ import annotations

from collections.abc import Callable

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

from atrous.models.atrous_convolution import AtrousConv2d, AtrousConv2dSame

_CONVOLUTIONS = (nn.Conv2d, Conv2dSame, AtrousConv2d, AtrousConv2dSame)


def fold_batch_norms(network: nn.Module, run: Callable[[], object]) -> list[str]:
    """Replace batch norms of a network by a bias of the convolution before them; in evaluation nothing changes.

    ``γ (w ∗ x − μ) / √(σ² + ε) + β`` is the convolution with ``w γ / √(σ² + ε)`` and bias ``β − μ γ / √(σ² + ε)``.

    Args:
        network: Changed in place; layers keep their names, an activation inside the norm stays.
        run: Runs the network once, in evaluation mode, so that it can be seen which layer follows which.

    Returns:
        Names of the batch norms that stay, because they do not always follow the same ordinary convolution.
    """
    norms = {name: module for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)}
    before = _convolutions_before(network, run)
    left = []
    for name, norm in norms.items():
        convolution = before.get(norm)
        if convolution is None:
            left.append(name)
            continue
        _fold(norm, convolution)
        rest = norm.act if isinstance(norm, BatchNormAct2d) else nn.Identity()
        rest._forward_hooks.update(norm._forward_hooks)
        network.set_submodule(name, rest)
    return left


def _convolutions_before(network: nn.Module, run: Callable[[], object]) -> dict[nn.BatchNorm2d, nn.Conv2d]:
    """The convolution of every batch norm that is always fed by the same one, which feeds nothing else."""
    made: dict[int, tuple[Tensor, nn.Module]] = {}  # tensors are kept, so no id is used twice
    makers: dict[nn.BatchNorm2d, list[nn.Module | None]] = {}  # of what a norm has seen
    calls: dict[nn.Module, int] = {}
    handles = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        made[id(output)] = (output, module)
        calls[module] = calls.get(module, 0) + 1

    def find(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        makers.setdefault(norm, []).append(made.get(id(inputs[0]), (None, None))[1])

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(note))
        elif isinstance(module, nn.BatchNorm2d):
            handles.append(module.register_forward_pre_hook(find))
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    found: dict[nn.BatchNorm2d, nn.Conv2d] = {}
    for norm, seen in makers.items():
        maker = seen[0]
        alone = set(seen) == {maker} and sum(maker in each for each in makers.values()) == 1
        if isinstance(maker, nn.Conv2d) and type(maker) in _CONVOLUTIONS and alone and calls[maker] == len(seen):
            found[norm] = maker
    return found


@torch.no_grad()
def _fold(norm: nn.BatchNorm2d, convolution: nn.Conv2d) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mean, variance = _precise(norm.running_mean), _precise(norm.running_var)
    weight, bias = (1.0, 0.0) if norm.weight is None else (_precise(norm.weight), _precise(norm.bias))
    scale = weight / (variance + norm.eps).sqrt()
    before = torch.zeros_like(mean) if convolution.bias is None else _precise(convolution.bias)
    filters = convolution.weight
    filters.copy_(_precise(filters) * scale[:, None, None, None])
    convolution.bias = nn.Parameter((bias + (before - mean) * scale).to(filters))


def _precise(tensor: Tensor) -> Tensor:
    """In float64, on the CPU, which every machine has: rounding of filters would add up over the layers."""
    return tensor.to("cpu", torch.float64)
