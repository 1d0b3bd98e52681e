"""Layers of a network become ours without anyone noticing."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import nn

from atrous.errors import AtrousError
from atrous.models.atrous_convolution import AtrousConv2d, AtrousConv2dSame, compiled, compute_by


@pytest.mark.parametrize("size", [(33, 40), (32, 31), (7, 8)])
@pytest.mark.parametrize(
    ("kernel", "stride", "rate"), [(3, 1, 1), (3, 2, 1), (5, 2, 1), (5, 1, 2), (3, 1, 6), (2, 1, 3)]
)
def test_same_padding_is_that_of_timm(size: tuple[int, int], kernel: int, stride: int, rate: int) -> None:
    theirs = Conv2dSame(6, 6, kernel, stride, dilation=rate, groups=6)
    ours = copy.deepcopy(theirs)
    compute_by(ours)
    assert type(ours) is AtrousConv2dSame
    image = torch.randn(2, 6, *size)
    assert torch.allclose(ours(image), theirs(image), atol=1e-6)


def test_symmetric_same_padding_copies_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = Conv2dSame(6, 6, 3, 2, groups=6)
    compute_by(layer)
    padded = []
    pad = torch.nn.functional.pad
    monkeypatch.setattr("torch.nn.functional.pad", lambda *a, **k: (padded.append(a), pad(*a, **k))[1])
    layer(torch.randn(1, 6, 33, 33))
    assert padded == []
    layer(torch.randn(1, 6, 32, 32))
    assert len(padded) == 1


def test_which_layers_become_ours() -> None:
    class Weighted(nn.Conv2d):
        """Computes something else."""

    network = nn.Sequential(
        nn.Conv2d(4, 4, 3, groups=4),
        nn.Conv2d(4, 4, 1),
        Weighted(4, 4, 3),
        Conv2dSame(4, 4, 3),
        nn.Conv2d(4, 4, 3, padding="same", dilation=2),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
    )
    image = torch.randn(1, 4, 12, 12)
    names, wanted = list(network.state_dict()), network(image)
    compute_by(network)
    kinds = [AtrousConv2d, AtrousConv2d, Weighted, AtrousConv2dSame, AtrousConv2d, AtrousConv2d]
    assert [type(layer) for layer in network] == kinds
    assert list(network.state_dict()) == names
    assert torch.allclose(network(image), wanted, atol=1e-6)
    for copied in (copy.deepcopy(network), pickle.loads(pickle.dumps(network[0]))):
        assert copied.state_dict().keys() <= set(names) | {"weight", "bias"}


def test_a_rate_that_changes_changes_the_result() -> None:
    layer = nn.Conv2d(8, 8, 3, padding=1, groups=8)
    compute_by(layer)
    image = torch.randn(1, 8, 15, 15)
    narrow = layer(image)
    layer.dilation = layer.padding = (2, 2)
    wide = layer(image)
    assert wide.shape == narrow.shape
    assert not torch.allclose(wide, narrow)


def test_what_pytorch_refuses_is_refused() -> None:
    """The kernel reads memory as it is told: shapes that do not fit must never reach it."""
    layer = nn.Conv2d(8, 8, 3, groups=8, dilation=2)
    for way in ("auto", "holes", "deinterlaced", "compiled"):
        compute_by(layer, way if way != "compiled" or compiled.is_available() else "auto")
        assert layer(torch.randn(8, 9, 9)).shape == (8, 5, 5)  # one map without a batch
        for wrong in (torch.randn(1, 16, 9, 9), torch.randn(1, 4, 9, 9), torch.randn(1, 8, 3, 9)):
            with pytest.raises(RuntimeError):
                layer(wrong)
        assert layer(torch.randn(0, 8, 9, 9)).shape == (0, 8, 5, 5)


def test_unknown_ways_are_refused() -> None:
    with pytest.raises(AtrousError, match=r"task\.atrous_convolution='fast' is unknown; choose one of auto, holes"):
        compute_by(nn.Conv2d(1, 1, 3), "fast")


def test_a_kernel_that_cannot_be_compiled_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "is_available", lambda: False)
    with pytest.raises(AtrousError, match=r"needs a C\+\+ compiler"):
        compute_by(nn.Conv2d(8, 8, 3, groups=8), "compiled")
    compute_by(nn.Conv2d(8, 8, 3, groups=8), "auto")
