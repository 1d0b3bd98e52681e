"""Processes that share weights, gradients and the optimizer's state among them (ZeRO stage 3, arXiv 1910.02054)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch.distributed as dist
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate, distribute_tensor
from torch.optim import Optimizer

from atrous.errors import AtrousError
from atrous.models import Segmentor


class FullySharded(DDPStrategy):
    """Trains as ``ddp`` does, but every process keeps only its share of each tensor that learns (PyTorch's FSDP2).

    A unit of the network (``Segmentor.units``) is put together when it is computed and again for its gradients.
    Checkpoints are whole, as those of one process, so that a run may go on under another strategy or with other
    processes.
    """

    def configure_ddp(self) -> None:
        """Share the network out.

        Raises:
            AtrousError: A callback keeps whole copies of the weights.
        """
        task = self.lightning_module
        assert task is not None
        if any(isinstance(callback, WeightAveraging) for callback in vars(task.trainer)["callbacks"]):
            raise AtrousError(
                "a moving average keeps a whole copy of the weights, which trainer=fsdp shares out: use trainer=ddp, "
                "or callbacks without average"
            )
        warnings.filterwarnings("ignore", message=".*returned a view tensor.*")  # which nobody changes in place
        segmentor = task.get_submodule("segmentor")
        assert isinstance(segmentor, Segmentor)
        share_out(segmentor, init_device_mesh(self.root_device.type, (self.world_size,)))

    def on_validation_start(self) -> None:
        """Put the network together, because processes may have different numbers of images to score.

        Buffers are those of the first process, as under ``ddp``: they are the ones that are saved.
        """
        assert self.lightning_module is not None
        for part in self._parts():
            part.set_reshard_after_forward(False, recurse=False)
            part.unshard()
        for buffer in self.lightning_module.buffers():
            dist.broadcast(buffer, src=0)

    def on_validation_end(self) -> None:
        """Share it out again."""
        for part in self._parts():
            is_whole = isinstance(part, Segmentor)  # whose way back begins at once
            part.set_reshard_after_forward(not is_whole, recurse=False)
            part.reshard()

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Whole tensors on the CPU of the first process; empty in the others."""
        assert self.lightning_module is not None
        return self._whole(self.lightning_module.state_dict())

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Likewise, of an optimizer."""
        state = getattr(optimizer, "_optimizer", optimizer).state_dict()
        return {**state, "state": {number: self._whole(tensors) for number, tensors in state["state"].items()}}

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Share out what a checkpoint has of the optimizers."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            shared = {
                number: {name: _as(parameters[number], value) for name, value in values.items()}
                for number, values in state["state"].items()
            }
            optimizer.load_state_dict({**state, "state": shared})

    def _parts(self) -> list[FSDPModule]:
        assert self.lightning_module is not None
        return [module for module in self.lightning_module.modules() if isinstance(module, FSDPModule)]

    def _whole(self, tensors: Mapping[str, Any]) -> dict[str, Any]:
        found = whole(tensors)
        return found if self.is_global_zero else {}


def share_out(segmentor: Segmentor, mesh: DeviceMesh) -> None:
    """Leave a share of each parameter that learns to this process of a mesh; numbers stay whole.

    Units whose activations are computed again must be so already.
    """
    ignored = set()
    for module in segmentor.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and not parameter.ndim:
                _replicate(module, name, mesh)
            if not parameter.requires_grad or not parameter.ndim:
                ignored.add(module.get_parameter(name))
            else:
                parameter.data = parameter.data.contiguous()  # all that FSDP2 takes; the layout of images decides
    known = set(segmentor.modules())
    for unit in segmentor.units():
        # a unit that is only a view of layers is none of the network's modules, which its layers are
        for part in [unit] if unit in known else unit.children():
            fully_shard(part, mesh=mesh, ignored_params=ignored)
    fully_shard(segmentor, mesh=mesh, ignored_params=ignored)


def local(tensor: Tensor) -> Tensor:
    """What this process has of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The whole of tensors that are shared out, on the CPU; all processes must ask for it."""
    return {
        name: tensor.full_tensor().detach().cpu() if isinstance(tensor, DTensor) else tensor
        for name, tensor in tensors.items()
    }


def _replicate(module: nn.Module, name: str, mesh: DeviceMesh) -> None:
    """Keep a number, which cannot be shared out, in every process, with the mean of their gradients."""
    number = distribute_tensor(module.get_parameter(name).detach(), mesh, [Replicate()])
    parameter = nn.Parameter(number)
    assert isinstance(parameter, DTensor)
    module.register_parameter(name, parameter)

    def enter(module: nn.Module, inputs: Any) -> None:
        module._parameters[name] = cast(nn.Parameter, parameter.to_local(grad_placements=[Partial("avg")]))

    def leave(module: nn.Module, inputs: Any, outputs: Any) -> None:
        module._parameters[name] = parameter

    register: Callable[..., object] = parameter.register_hook
    register(lambda gradient: gradient.redistribute(placements=[Replicate()]))
    module.register_forward_pre_hook(enter)
    module.register_forward_hook(leave, always_call=True)


def _as(parameter: Tensor, value: Any) -> Any:
    """A tensor of an optimizer's state, shared out as its parameter is."""
    if isinstance(parameter, DTensor) and isinstance(value, Tensor) and value.shape == parameter.shape:
        return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)
    return value
