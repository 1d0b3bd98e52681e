"""Starting from other weights: what fits is taken over, everything else is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from atrous.checkpoints import transfer_weights
from atrous.errors import AtrousError
from atrous.models.segmentor import Segmentor

Network = Callable[..., Segmentor]
CheckpointOf = Callable[[Segmentor], Path]


def test_same_network_takes_everything(network: Network, checkpoint_of: CheckpointOf) -> None:
    source, target = network(1), network(2)
    report = transfer_weights(target, checkpoint_of(source))
    assert set(report.loaded) == set(source.state_dict())
    assert report.dropped == report.missing == ()
    assert all(torch.equal(t, source.state_dict()[name]) for name, t in target.state_dict().items())
    assert report.lines() == [f"loaded {len(source.state_dict())} tensors"]


def test_other_number_of_classes_keeps_the_classifier(network: Network, checkpoint_of: CheckpointOf) -> None:
    source, target = network(1), network(2, num_classes=5)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    report = transfer_weights(target, checkpoint_of(source))
    names = ["head.classifier.bias", "head.classifier.weight"]
    assert list(report.missing) == names
    assert sorted(line.split(":")[0] for line in report.dropped) == names
    assert f"{names[1]}: shape [3, 8, 1, 1], the network's is [5, 8, 1, 1]" in report.dropped
    for name, tensor in target.state_dict().items():
        assert torch.equal(tensor, before[name] if name in names else source.state_dict()[name])


def test_every_dropped_and_missing_tensor_is_named(network: Network, checkpoint_of: CheckpointOf) -> None:
    source, target = network(1, separable=True), network(2, separable=False)
    report = transfer_weights(target, checkpoint_of(source))
    ours, theirs = target.state_dict(), source.state_dict()
    fits = {name for name in ours if name in theirs and ours[name].shape == theirs[name].shape}
    assert fits < set(ours)
    assert set(report.loaded) == fits
    assert {line.split(":")[0] for line in report.dropped} == set(theirs) - fits
    assert set(report.missing) == set(ours) - fits
    lines = report.lines()
    assert len(lines) == 1 + len(report.dropped) + len(report.missing)
    assert "dropped head.aspp.atrous.0.3.weight: the network has no such tensor" in lines
    assert "missing head.aspp.atrous.0.0.weight: keeps its initial values" in lines


def test_plain_state_dict_of_a_network(network: Network, tmp_path: Path) -> None:
    source, target = network(1), network(2)
    torch.save(source.state_dict(), tmp_path / "weights.pt")
    report = transfer_weights(target, tmp_path / "weights.pt")
    assert report.missing == ()
    assert all(torch.equal(t, source.state_dict()[name]) for name, t in target.state_dict().items())


def test_nothing_fits(network: Network, tmp_path: Path) -> None:
    target = network()
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    torch.save({"weight": torch.ones(2), "head.classifier.bias": torch.ones(7)}, tmp_path / "other.pt")
    with pytest.raises(AtrousError, match=r"init_from=.*other\.pt: none of its 2 tensors fits this network"):
        transfer_weights(target, tmp_path / "other.pt")
    assert all(torch.equal(tensor, before[name]) for name, tensor in target.state_dict().items())


def test_missing_file(network: Network, tmp_path: Path) -> None:
    with pytest.raises(AtrousError, match=r"there is no checkpoint .*none\.ckpt"):
        transfer_weights(network(), tmp_path / "none.ckpt")
