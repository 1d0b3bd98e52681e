"""Checkpoints of format 1: they load under the present names, and their networks compute what they computed then.

``format_1/networks.json`` and ``format_1/run.ckpt`` were written by the last version of that format.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from atrous.checkpoints.card import Card, load_plain, read_checkpoint
from atrous.checkpoints.format_1 import upgraded
from atrous.checkpoints.recipe import build_model
from atrous.errors import AtrousError

FOLDER = Path(__file__).parent / "format_1"
NETWORKS: dict[str, Any] = json.loads((FOLDER / "networks.json").read_text())
GONE = {"folded_deeplabv3plus"}


def fill(network: nn.Module) -> None:
    """Weights that are a function of their names, so that the order in which layers are made does not matter."""
    state = network.state_dict()
    for name, tensor in state.items():
        if not tensor.is_floating_point():
            continue
        values = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
        if name.endswith("running_var"):
            values = 0.5 + values.abs()
        elif name.endswith("temperature"):
            values = torch.tensor(0.5)
        elif tensor.ndim > 1:
            values = values * (2 / tensor[0].numel()) ** 0.5
        else:
            values = 0.3 * values + (1.0 if name.endswith("weight") else 0.0)
        state[name] = values
    network.load_state_dict(state)


@pytest.mark.parametrize("name", sorted(NETWORKS.keys() - GONE))
@pytest.mark.filterwarnings("ignore:backbone.dilation")
def test_networks_have_the_same_tensors_and_compute_the_same_logits(name: str) -> None:
    wanted = NETWORKS[name]
    network = build_model(upgraded(wanted["model"]), 5).eval()
    tensors = {each: list(tensor.shape) for each, tensor in network.state_dict().items()}
    assert zlib.crc32(json.dumps(tensors, sort_keys=True).encode()) == wanted["tensors"]
    assert [[*network.head.pretrained_names], [*network.upsampler.pretrained_names]] == wanted["groups"]
    fill(network)
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (1, 3, 65, 97), generator=generator).to(torch.uint8)
    for stride in (8, 16, 32):
        if str(stride) not in wanted["logits"]:
            with pytest.raises(AtrousError):
                network.set_output_stride(stride)
            continue
        network.set_output_stride(stride)
        with torch.no_grad():
            logits = network(image)[0].double().flatten()
        then = wanted["logits"][str(stride)]
        values = torch.tensor(then["values"], dtype=torch.float64)
        torch.testing.assert_close(logits[:: logits.numel() // 11][:11], values, rtol=0, atol=1e-4 * then["spread"])


def test_a_form_that_no_head_has_anymore_is_refused() -> None:
    with pytest.raises(AtrousError, match=r"a form that no head has anymore \(norm=folded\): use the version"):
        upgraded(NETWORKS["folded_deeplabv3plus"]["model"])


SMP = NETWORKS["smp_deeplabv3plus"]["model"]["head"]


def test_a_run_in_the_form_of_smp_has_options_that_its_head_no_longer_takes() -> None:
    """Recipes of runs held every default; they are dropped where they say what the head does, and refused elsewhere."""
    defaults = {"image_pooling": "global", "low_level_stride": 4, "low_level_channels": 48, "decoder_kernel": 3}
    network = {**NETWORKS["smp_deeplabv3plus"]["model"], "head": {**SMP, **defaults}}
    assert upgraded(network) == upgraded(NETWORKS["smp_deeplabv3plus"]["model"])
    build_model(upgraded(network), 5)
    for name, value in (
        ("decoder_depth", 2),
        ("decoder_channels", 9),
        ("low_level_channels", 5),
        ("image_pooling", 65),
    ):
        with pytest.raises(AtrousError, match=f"no head has anymore .*{name}={value}"):
            upgraded({**SMP, name: value})


@pytest.mark.parametrize("separable", [False, True])
def test_a_decoder_as_separable_as_the_pyramid_is_the_papers(separable: bool) -> None:
    head = NETWORKS["deeplabv3plus"]["model"]["head"]
    said = {**head, "separable": separable, "decoder_separable": separable}
    assert upgraded(said) == upgraded({**head, "separable": separable})
    with pytest.raises(AtrousError, match="decoder_separable"):
        upgraded({**said, "separable": not separable})


def test_corners_stay_aligned_in_the_head_of_mmsegmentation() -> None:
    for aligned in (False, True):
        head = {**NETWORKS["mmseg_deeplabv3plus"]["model"]["head"], "align_corners": aligned}
        assert upgraded(head)["_target_"] == "atrous.models.heads.MMSegDeepLabV3PlusHead"
        assert upgraded(head)["align_corners"] is aligned


@pytest.mark.parametrize("name", ["deeplabv1", "deeplabv2", "deeplabv3plus"])
def test_a_run_of_then_has_the_settings_of_now(name: str, composed: Callable[..., DictConfig]) -> None:
    """What its recipe did not say is the default of then, so that the run can go on."""
    model = NETWORKS[name]["model"]
    said = [f"model={name}", f"backbone={'vgg16' if name == 'deeplabv1' else 'resnet18'}"]
    now = OmegaConf.to_container(composed("train", *said).model, resolve=True)
    assert isinstance(now, dict)
    then = upgraded(model)
    assert "auxiliary_weight" not in model or name == "deeplabv3plus"
    different = {key for key in {*now, *then} if now.get(key) != then.get(key)}
    assert different <= {"backbone", "head"}  # which were made small
    assert now["head"].keys() == then["head"].keys()


def test_every_head_of_another_project_is_made_of_an_old_one() -> None:
    heads = {
        upgraded(NETWORKS[name]["model"])["head"]["_target_"].rpartition(".")[2] for name in NETWORKS.keys() - GONE
    }
    foreign = ("MMSegDeepLabV3", "MMSegDeepLabV3Plus", "SMPDeepLabV3", "SMPDeepLabV3Plus", "TFLiteDeepLabV3")
    assert {f"{name}Head" for name in (*foreign, "TorchvisionDeepLabV3")} <= heads


def test_a_checkpoint_says_its_format() -> None:
    old = load_plain(FOLDER / "run.ckpt")
    assert old[Card.KEY]["format"] == 1
    assert old[Card.KEY]["recipe"]["model"]["_target_"] == "atrous.segmentor.Segmentor"
    card, _ = read_checkpoint(FOLDER / "run.ckpt")
    assert card.recipe["model"]["_target_"] == "atrous.models.Segmentor"
    assert card.recipe["data"]["dataset"]["_target_"] == "atrous.data.sets.Shapes"
    assert card.to_dict()["format"] == Card.FORMAT == 2
    assert Card.of({Card.KEY: card.to_dict()}) == card
