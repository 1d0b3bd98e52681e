"""Batch norm folded into the convolution before it: the form of networks that were exported for inference."""

from __future__ import annotations

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn

from atrous.errors import AtrousError
from atrous.models.backbones.output_stride import probe


def fold_batch_norms(network: nn.Module, name: str) -> None:
    """Replace every batch norm of a network by a bias of the convolution before it; in evaluation nothing changes.

    ``γ (w ∗ x − μ) / √(σ² + ε) + β`` is the convolution with ``w γ / √(σ² + ε)`` and bias ``β − μ γ / √(σ² + ε)``.

    Args:
        network: A timm model, changed in place; layers keep their names, an activation inside the norm stays.
        name: Its name, for the message.

    Raises:
        AtrousError: A batch norm does not directly follow a convolution.
    """
    for norm_name, (norm, convolution) in _convolutions_before(network, name).items():
        _fold(norm, convolution)
        rest = norm.act if isinstance(norm, BatchNormAct2d) else nn.Identity()
        rest._forward_hooks.update(norm._forward_hooks)
        network.set_submodule(norm_name, rest)


def _convolutions_before(network: nn.Module, name: str) -> dict[str, tuple[nn.BatchNorm2d, nn.Conv2d]]:
    made: dict[int, tuple[Tensor, nn.Module]] = {}  # tensors are kept, so no id is used twice
    pairs: dict[str, tuple[nn.BatchNorm2d, nn.Conv2d]] = {}
    handles = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        made[id(output)] = (output, module)

    for norm_name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(note))
        elif isinstance(module, nn.BatchNorm2d):

            def find(norm: nn.Module, inputs: tuple[Tensor, ...], norm_name: str = norm_name) -> None:
                _, before = made.get(id(inputs[0]), (None, None))
                if type(before) not in (nn.Conv2d, Conv2dSame):
                    raise AtrousError(
                        f"the batch norm of backbone {name!r} cannot be folded: {norm_name!r} does not follow an "
                        "ordinary convolution"
                    )
                assert isinstance(norm, nn.BatchNorm2d)
                assert isinstance(before, nn.Conv2d)
                pairs[norm_name] = (norm, before)

            handles.append(module.register_forward_pre_hook(find))
    try:
        probe(network)
    finally:
        for handle in handles:
            handle.remove()
    return pairs


@torch.no_grad()
def _fold(norm: nn.BatchNorm2d, convolution: nn.Conv2d) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    before = torch.zeros_like(norm.running_mean) if convolution.bias is None else convolution.bias
    bias = norm.bias + (before - norm.running_mean) * scale
    convolution.weight *= scale[:, None, None, None]
    convolution.bias = nn.Parameter(bias)
