"""Networks whose tensors two processes share: what they learn is what whole ones do."""

from __future__ import annotations

import copy
import datetime
import functools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

import atrous
from atrous.models import Segmentor
from atrous.models.nas import SearchHead, Supernet
from atrous.models.nas.architecture import architecture_alone
from atrous.training import freeze_batch_norm, parameter_groups
from atrous.training.fully_sharded import share_out, whole

pytestmark = pytest.mark.long

SMALL = "backbone.name=test_resnet"
NETWORKS = [
    ("deeplabv1_msc", "vgg16", ("backbone.channels=[8,8,8,8,8]", "model.head.head.channels=16")),
    ("deeplabv2", "resnet18", ("model.scales=[1,0.5]", SMALL)),
    ("deeplabv3", "mobilenetv2_050", ("model.head.aspp_channels=16",)),
    ("deeplabv3_cascade", "resnet18", ()),
    ("deeplabv3plus", "resnet18", ("model.head.aspp_channels=16", "model.head.decoder_channels=16", SMALL)),
    ("dupsampling", "resnet18", ("model.head.aspp_channels=16", "upsampler.weights=random", SMALL)),
    ("hdc_duc", "resnet18", (SMALL,)),
]


def in_two_processes(check: Callable[[int], None], tmp_path: Path) -> None:
    mp.spawn(_enter, args=(check, str(tmp_path / "store")), nprocs=2)


def _enter(rank: int, check: Callable[[int], None], store: str) -> None:
    torch.set_num_threads(1)
    minutes = datetime.timedelta(minutes=3)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2, timeout=minutes)
    check(rank)
    dist.destroy_process_group()


def image_of(rank: int) -> Tensor:
    """Its layout decides how dropout's numbers are laid out."""
    image = torch.randint(0, 256, (2, 3, 33, 33), generator=torch.Generator().manual_seed(rank), dtype=torch.uint8)
    return image.contiguous(memory_format=torch.channels_last)


def learn(network: Segmentor, image: Tensor, *, steps: int = 2) -> tuple[list[float], dict[str, Tensor]]:
    """Steps of gradient descent with momentum: norms of the gradients, and the weights."""
    optimizer = torch.optim.SGD(parameter_groups(network, 0.01, weight_decay=1e-3), momentum=0.9)
    norms = []
    for number in range(steps):
        torch.manual_seed(number)
        outputs = network(image, outputs="all")
        sum(output.square().mean() for output in outputs.values()).backward()
        average(network)
        norm = nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        norms.append(float(norm.full_tensor() if isinstance(norm, DTensor) else norm))
        optimizer.step()
        optimizer.zero_grad()
    return norms, whole(network.state_dict())


def average(network: nn.Module) -> None:
    """The mean of the gradients over the processes, as DistributedDataParallel takes it."""
    for parameter in network.parameters():
        if parameter.grad is not None and not isinstance(parameter, DTensor):
            dist.all_reduce(parameter.grad)
            parameter.grad /= 2


def learns_what_whole_networks_do(rank: int) -> None:
    mesh = init_device_mesh("cpu", (2,))
    for model, backbone, overrides in NETWORKS:
        torch.manual_seed(0)
        network = atrous.create(model, backbone, num_classes=3, pretrained=False, overrides=overrides).train()
        network.to(memory_format=torch.channels_last)
        freeze_batch_norm(network)  # statistics of so few pixels turn a rounding error into a thousand
        norms, weights = learn(copy.deepcopy(network), image_of(rank))
        for recompute in (False, True) if model == "deeplabv3plus" else (True,):
            shared = copy.deepcopy(network)
            if recompute:
                shared.checkpoint_activations()
            share_out(shared, mesh)
            held = sum(tensor.to_local().numel() for tensor in shared.parameters() if isinstance(tensor, DTensor))
            assert held < 0.55 * sum(tensor.numel() for tensor in network.parameters()), f"{model} is not shared out"
            found, shared_weights = learn(shared, image_of(rank))
            assert found == pytest.approx(norms, rel=1e-4), f"{model}: the gradients' norms {found}, {norms}"
            require_close(shared_weights, weights, model)


def require_close(found: dict[str, Tensor], wanted: dict[str, Tensor], what: str) -> None:
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        if tensor.is_floating_point():
            torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-5, msg=f"{what}: {name}")


def searches_as_whole_networks_do(rank: int) -> None:
    torch.manual_seed(0)
    network = Segmentor(
        backbone=Supernet(layers=2, width=2, blocks=2, stem=[4, 4, 8]),
        head=functools.partial(SearchHead, aspp_channels=8, dropout=0.0),
        num_classes=3,
    ).train()
    shared = copy.deepcopy(network)
    shared.checkpoint_activations()
    share_out(shared, init_device_mesh("cpu", (2,)))
    (wanted, weights), (found, shared_weights) = (search(each, image_of(rank)) for each in (network, shared))
    for gradient, other in zip(wanted, found, strict=True):
        torch.testing.assert_close(other, gradient, rtol=1e-4, atol=1e-7)
    require_close(shared_weights, weights, "weights")


def search(network: Segmentor, image: Tensor) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Gradients of alpha and beta, and the weights after two steps that follow theirs."""
    assert isinstance(network.backbone, Supernet)
    architecture, gradients = network.backbone.architecture, []
    for _ in range(2):
        with architecture_alone(network, architecture):
            loss = network(image)[:, 0].square().mean()
            gradients += torch.autograd.grad(loss, [architecture.alpha, architecture.beta])
        learn(network, image, steps=1)
    return gradients, whole(network.state_dict())


def test_a_search_learns_what_it_does_whole(tmp_path: Path) -> None:
    in_two_processes(searches_as_whole_networks_do, tmp_path)


def test_every_head_learns_what_it_does_whole(tmp_path: Path) -> None:
    in_two_processes(learns_what_whole_networks_do, tmp_path)
