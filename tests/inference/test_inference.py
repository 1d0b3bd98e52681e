"""What every inference promises, asked of every one that a user can choose."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from torch import Tensor

import atrous.inference
from atrous.composition import build
from atrous.inference import Inference, InferenceProtocol, Stage
from atrous.metrics import Protocol
from atrous.models import Segmentor

FOLDER = Path(__file__).parents[2] / "conf" / "inference"
CHOICES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read(name: str) -> dict[str, Any]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(FOLDER.parent), version_base="1.3"):
        node: dict[str, Any] = OmegaConf.to_container(compose(overrides=[f"+inference={name}"]).inference)
    return node


def chosen(name: str) -> Inference:
    inference: Inference = build(read(name))
    return inference


def test_all_of_them_keep_the_contract() -> None:
    others = {InferenceProtocol, Stage}
    shown = [kind for _, kind in inspect.getmembers(atrous.inference, inspect.isclass) if kind not in others]
    assert all(issubclass(kind, Inference) for kind in shown)
    assert {type(chosen(name)) for name in CHOICES} == set(shown) - {Inference}


@pytest.mark.parametrize("name", CHOICES)
def test_each_says_in_the_protocol_what_it_does(name: str) -> None:
    """A score whose protocol is silent about the inference could not be compared with another."""
    plain = Protocol("toy", "val", 16)
    said = chosen(name).protocol
    assert said.keys() <= InferenceProtocol.__annotations__.keys()
    assert InferenceProtocol.__annotations__.keys() <= {field.name for field in dataclasses.fields(Protocol)}
    protocol = dataclasses.replace(plain, **said)
    assert (protocol == plain) == (name == "whole_image")
    assert Protocol.from_dict(protocol.to_dict()) == protocol


@pytest.mark.parametrize("name", CHOICES)
def test_each_gives_probabilities_at_the_image_s_own_size(
    name: str, network: Segmentor, pictures: Callable[..., Tensor]
) -> None:
    image = pictures(45, 38)
    with torch.no_grad():
        probabilities = chosen(name)(network, image)
    assert probabilities.shape == (2, 4, 45, 38)
    assert probabilities.dtype == torch.float32
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(2, 45, 38))
    assert len(probabilities.argmax(dim=1).unique()) > 1
